# The image `sillyproxy`. BASE is any image with `python` 3.11 or newer, `pip` and `useradd`.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
COPY pyproject.toml README.md /src/
COPY src /src/src
# A virtual environment is the same path in every base image; one without pip stays small.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check /src

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sillyproxy
COPY --from=build /opt/venv /opt/venv
# The modules are compiled in the image: nothing is written at run time, the root may be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER sillyproxy
EXPOSE 8080
STOPSIGNAL SIGTERM
# A Swarm lists a task in its DNS once it is healthy: a short interval is a short roll-out.
HEALTHCHECK --interval=1s --timeout=5s --start-period=10s --retries=3 CMD ["sillyproxy", "healthcheck"]
ENTRYPOINT ["sillyproxy"]
