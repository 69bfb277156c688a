# The image `sillyproxy`. BASE is any image with `python` 3.11 or newer, `pip` and `useradd`.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
COPY pyproject.toml README.md /src/
COPY src /src/src
COPY myapp/myapp.py /src/myapp/
# A virtual environment is the same path in every base image; one without pip stays small. With `top`, so that
# `docker exec -it … sillyproxy top` draws; --build-arg EXTRAS=otel brings what `sillyproxy[otel]` does as well.
ARG EXTRAS=
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check "/src[top${EXTRAS:+,$EXTRAS}]"
# --build-arg COMPILE=1: the same source with its hot path compiled, a fifth less CPU per request (docs/design.md).
# Fetches a C compiler from Debian; where BASE has Debian's own Python, its headers (python3-dev) must be in BASE.
ARG COMPILE=0
COPY scripts/compile.py /src/scripts/
RUN if [ "$COMPILE" = 1 ]; then \
      apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
      && python -m venv /opt/tools && /opt/tools/bin/pip install --no-cache-dir --disable-pip-version-check mypy \
      && PYTHONPATH="$(echo /opt/venv/lib/python3*/site-packages)" /opt/tools/bin/python /src/scripts/compile.py --installed; \
    fi

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sillyproxy
COPY --from=build /opt/venv /opt/venv
# The modules are compiled in the image: nothing is written at run time, the root may be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER sillyproxy
EXPOSE 8080
STOPSIGNAL SIGTERM
# A Swarm lists a task in its DNS, and goes on with an update, once it is healthy: a short interval is a short
# roll-out. Healthy means started: every color with a weight has answered once, for which it has the start period;
# after that a new task that has not is replaced, or its update undone.
HEALTHCHECK --interval=1s --timeout=5s --start-period=30s --retries=3 CMD ["sillyproxy", "healthcheck"]
ENTRYPOINT ["sillyproxy"]
