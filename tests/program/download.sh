#!/usr/bin/env bash
# download.sh <source folder>: run.sh --download against a server of its own, which breaks off, damages and is gone.
set -euo pipefail
root=$1
for tool in python3 curl md5sum; do
  command -v $tool >/dev/null || { echo "skipped: there is no $tool" && exit 0; }
done
work=$(mktemp -d)
server=
cleanup() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf -- "$work"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# An archive like the official one: six files, of which tar needs more than one read.
mkdir -p "$work/www" "$work/make/cifar-10-batches-bin"
for name in data_batch_{1..5} test_batch; do
  head -c 307300 /dev/urandom >"$work/make/cifar-10-batches-bin/$name.bin"
done
tar -czf "$work/www/good.tar.gz" -C "$work/make" cifar-10-batches-bin
sum=$(md5sum "$work/www/good.tar.gz" | cut -d' ' -f1)
size=$(stat -c %s "$work/www/good.tar.gz")
{ head -c 1000 "$work/www/good.tar.gz" && head -c $((size - 1000)) /dev/urandom; } >"$work/www/damaged.tar.gz"

# Serves ranges; below /cut/ it closes the connection after 700,000 bytes of an answer.
cat >"$work/serve.py" <<'PY'
import http.server, os, re, sys
root = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        cut = self.path.startswith('/cut/')
        path = os.path.join(root, os.path.basename(self.path))
        if not os.path.isfile(path):
            return self.send_error(404)
        data = open(path, 'rb').read()
        start = 0
        found = re.match(r'bytes=(\d+)-', self.headers.get('Range', ''))
        if found and '/norange/' not in self.path:
            start = int(found.group(1))
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206)
            self.send_header('Content-Range', 'bytes %d-%d/%d' % (start, len(data) - 1, len(data)))
        else:
            self.send_response(200)
        open(os.path.join(root, 'log'), 'a').write('%d\n' % start)
        self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:start + 700000] if cut else data[start:])
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
PY
python3 "$work/serve.py" "$work/www" >"$work/port" &
server=$!
for _ in $(seq 100); do [[ -s $work/port ]] || sleep 0.1; done
address=http://127.0.0.1:$(cat "$work/port")

# get <folder> <path>: runs the script there; its messages are in $work/log.
get() {
  mkdir -p "$work/$1"
  (cd "$work/$1" && CIFAR10_URL=$address/$2 CIFAR10_MD5=$sum bash "$root/examples/cifar10/run.sh" --download) >"$work/log" 2>&1
}
whole() {
  diff -r "$work/make/cifar-10-batches-bin" "$work/$1/cifar-10-batches-bin" || fail "$1: the files differ"
  [[ $(ls -A "$work/$1") == cifar-10-batches-bin ]] || fail "$1: something is left: $(ls -A "$work/$1")"
}

get plain good.tar.gz || fail "a plain download: $(cat "$work/log")"
whole plain
: >"$work/www/log"
get plain good.tar.gz || fail "a second time"
[[ ! -s $work/www/log ]] || fail "a second time it was fetched again"
grep -q 'is in .* already' "$work/log" || fail "a second time nothing is said"

# Cut off again and again: each start goes on where the last one ended.
: >"$work/www/log"
for _ in 1 2 3 4 5; do
  get cut cut/good.tar.gz && break
  grep -q 'start again: what has arrived is kept in' "$work/log" || fail "cut off: $(cat "$work/log")"
done
whole cut
[[ $(sort -nu "$work/www/log" | wc -l) -ge 3 ]] || fail "it did not go on where it ended: $(cat "$work/www/log")"

# A part from a server that cannot go on is fetched anew.
mkdir -p "$work/norange"
head -c 5000 "$work/www/good.tar.gz" >"$work/norange/cifar-10-binary.tar.gz.part"
get norange norange/good.tar.gz || fail "no ranges: $(cat "$work/log")"
whole norange

# All had arrived before, only the end was not noticed.
mkdir -p "$work/complete"
cp "$work/www/good.tar.gz" "$work/complete/cifar-10-binary.tar.gz.part"
get complete good.tar.gz || fail "complete: $(cat "$work/log")"
whole complete

# Damaged on the way: told, removed, and the next start succeeds.
get damaged damaged.tar.gz && fail "a damaged archive was accepted"
grep -q "the checksum of .* is not $sum, .*start again" "$work/log" || fail "damaged: $(cat "$work/log")"
[[ -z $(ls -A "$work/damaged") ]] || fail "damaged: something is left"
get damaged good.tar.gz || fail "after damage: $(cat "$work/log")"
whole damaged

get missing absent.tar.gz && fail "a file that is not there was accepted"
grep -q 'could not be fetched; see to the network and start again' "$work/log" || fail "missing: $(cat "$work/log")"

kill "$server"
wait "$server" 2>/dev/null || true
server=
get gone good.tar.gz && fail "no server, and no failure"
grep -q 'could not be fetched; see to the network and start again' "$work/log" || fail "gone: $(cat "$work/log")"
echo "downloads: plain, again, cut off, without ranges, complete before, damaged, missing, without a server"
