#!/usr/bin/env bash
# browser.sh <program>: the page of --report in a browser: no console errors, nothing fetched, no part wider than a
# phone, and what it is to show.
set -euo pipefail
program=$1
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[[ -n $browser ]] || { echo "skipped: there is no chromium" && exit 0; }
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

(cd "$work" && OMP_NUM_THREADS=1 "$program" --model mlp --images 1000 --epochs 3 --significance 0.3 --units 3 --report page \
  --statistics-samples 300 --search-samples 100 >out)
page=$work/page/report.html

# A frame of a phone's width tells how wide the page becomes; the browser's own window is never below 500.
cat >"$work/frame.html" <<HTML
<iframe id="f" src="page/report.html" style="width:390px;height:800px;border:0"></iframe>
<script>
document.getElementById('f').onload = function () {
  var d = this.contentDocument, e = d.documentElement;
  document.title = 'width ' + e.scrollWidth + ' svg ' + d.querySelectorAll('svg').length + ' broken ' +
    Array.prototype.filter.call(d.images, function (i) { return i.naturalWidth === 0; }).length +
    ' images ' + d.images.length;
};
</script>
HTML
open_page() {
  timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/profile" \
    --allow-file-access-from-files --virtual-time-budget=5000 --enable-logging=stderr --v=0 --dump-dom "$@" 2>"$work/log"
}
open_page "file://$page" >"$work/dom" || fail "the browser ended with $?: $(tail -3 "$work/log")"
if grep -E 'CONSOLE|Refused to|ERR_' "$work/log"; then fail "the page has console messages"; fi
open_page "file://$work/frame.html" >"$work/frame" || fail "the browser ended with $?: $(tail -3 "$work/log")"
read -r width svgs broken images < <(sed -n 's/.*<title>width \([0-9]*\) svg \([0-9]*\) broken \([0-9]*\) images \([0-9]*\).*/\1 \2 \3 \4/p' "$work/frame")
[[ -n ${width:-} ]] || fail "the frame says nothing: $(head -c 300 "$work/frame")"
((width <= 390)) || fail "the page is $width wide on a phone of 390"
((svgs >= 8)) || fail "there are only $svgs drawings"
((broken == 0 && images >= 24)) || fail "$broken of $images pictures are broken"

for part in 'mlp on built-in procedural images' 'test accuracy' '3 of 3' 'Accuracy and loss' 'Width of every layer' \
  'At the start' 'At the end' 'Expressivity bottleneck' 'Growth after epoch 1' 'Growth after epoch 2' 'Spectra' \
  'class="threshold"' 'class="kept"' 'Confusion' 'Filters of the first layer' 'Examples' 'layer1' 'layer2' \
  'accuracy over the epochs' 'the network at the start' 'width of every layer over the epochs'; do
  grep -qF -- "$part" "$work/dom" || fail "the page does not show: $part"
done
# What the program printed is what the page says.
accuracy=$(sed -n 's/^result    test accuracy \([0-9.]* %\).*/\1/p' "$work/out")
grep -qF "<dd>$accuracy</dd>" "$work/dom" || fail "the page does not say $accuracy"
echo "report: $svgs drawings, $images pictures, $width wide on a phone of 390"
