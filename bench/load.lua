-- wrk's side of a scenario: BENCH_REQUEST says which request, and the end is told as one line of JSON.
-- tiny: what wrk sends by itself. fixed: the bytes of BENCH_HEAD, again and again.
-- varied: BENCH_HEAD with each %N% replaced by a number that no other request has.

local kind = os.getenv("BENCH_REQUEST") or "tiny"
local head = os.getenv("BENCH_HEAD") or ""

if kind == "fixed" then
    request = function() return head end
elseif kind == "varied" then
    local parts, count = {}, os.time() % 1000000 * 1000000
    for part in (head .. "%N%"):gmatch("(.-)%%N%%") do parts[#parts + 1] = part end
    request = function()
        count = count + 1
        return table.concat(parts, string.format("%012d", count))
    end
end

function done(summary, latency, requests)
    local e = summary.errors
    print(string.format(
        'BENCH {"requests": %d, "bytes": %d, "seconds": %.6f, "p50_us": %.1f, "p99_us": %.1f, "errors": %d}',
        summary.requests, summary.bytes, summary.duration / 1e6,
        latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
