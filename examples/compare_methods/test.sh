#!/bin/sh
# A comparison small enough for every check: test.sh <compare_methods>
set -eu
program=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() {
  echo "compare_methods: $1" >&2
  exit 1
}

"$program" --images 100 --test-images 50 --epochs 3 --grow-after 1/2 --seeds 2 --units 2 --learning-rate 0.05 \
  --methods tiny,gradmax-copied,tiny:split=even:damping=0.001:rate=2/1,net2wider:shrink=0.5:perturb=0.1 --out first >table
for method in small large large-equal tiny gradmax-copied tiny:split=even:damping=0.001:rate=2/1 \
  net2wider:shrink=0.5:perturb=0.1; do
  grep -q "^| $method | [0-9.]* ± [0-9.]* | [0-9.]* | [0-9]* | " table || fail "no row for $method in $(cat table)"
  # Three epochs of two seeds; as many as it takes for as many operations.
  lines=$(grep -c "^$method,[01],[0-9]\(,[0-9.]*\)\{6\}$" first.csv)
  [ "$lines" -eq 6 ] || [ $method = large-equal ] || fail "lines of $method in first.csv"
  grep -q ">$method</text>" first.svg || fail "the plot does not name $method"
done
# The copies have the widths of the network that was large from the beginning.
field() { grep "^$1,0,$2," first.csv | cut -d, -f"$3"; }
[ "$(field large 3 4)" = "$(field net2wider:shrink=0.5:perturb=0.1 3 4)" ] ||
  fail "net2wider ends with another size than large"
# As many operations as the mean of the first method's seeds, to a batch: half an epoch of large's.
awk -F, -v each="$(field large 1 5)" '
  $1 == "tiny" && $3 == 3 { wanted += $5 / 2 }
  $1 == "large-equal" && $2 == 0 { done = $5 }
  END { exit !(done - wanted < each / 2 && wanted - done < each / 2) }' first.csv ||
  fail "large-equal did not do as much as tiny"
if grep -qiE 'nan|inf' first.svg first.csv; then fail "a number is not finite"; fi
# Ticks and other numbers are round: at most one digit behind the point.
if grep -qE '>-?[0-9]*\.[0-9]{2,}[kMGTP]?</text>' first.svg; then fail "an odd number in the plot"; fi

# Streams grow from a quarter of the channels to those of the network that was large from the beginning.
"$program" --model resnet18 --channels 8 --images 60 --test-images 50 --epochs 2 --grow-after 1 --seeds 1 --no-controls \
  --methods large,small:widths=all,net2wider:widths=all --out streams >/dev/null
size() { grep "^$1,0,$2," streams.csv | cut -d, -f4; }
[ "$(size net2wider:widths=all 2)" = "$(size large 2)" ] || fail "with all widths net2wider ends with another size than large"
[ "$(size net2wider:widths=all 1)" -gt "$(size small:widths=all 1)" ] || fail "no width grew"

# Blocks join, and what came out is trained anew, for as many epochs and for as many operations.
"$program" --model resnet18 --channels 8 --images 60 --test-images 50 --epochs 3 --grow-after 1/2 --seeds 1 \
  --no-controls --methods tiny:widths=all:depth=1,scratch,scratch-equal --out depth >/dev/null
size() { grep "^$1,0,$2," depth.csv | cut -d, -f"$3"; }
for control in scratch scratch-equal; do
  [ "$(size $control 1 4)" = "$(size tiny:widths=all:depth=1 3 4)" ] || fail "$control has another size than what grew"
done
# To a step of at most an epoch.
awk -F, '
  $1 == "tiny:widths=all:depth=1" { wanted = $5 }
  $1 == "scratch" && $3 == 1 { each = $5 }
  $1 == "scratch-equal" { done = $5 }
  END { exit !(done - wanted < each && wanted - done < each) }' depth.csv ||
  fail "scratch-equal did not do as much as what grew"

"$program" --redraw first.csv --out second
cmp first.svg second.svg || fail "the plot drawn from the numbers is another"
echo "method,seed" >bad.csv
if "$program" --redraw bad.csv --out third 2>message; then fail "a table of something else was drawn"; fi
grep -q "bad.csv does not begin with 'method,seed,epoch" message || fail "said of bad.csv: $(cat message)"
if "$program" --methods magic --out third 2>message; then fail "an unknown method was accepted"; fi
grep -q "there is no growth method 'magic'" message || fail "said of magic: $(cat message)"
if "$program" --methods tiny:colour=red --out third 2>message; then fail "an unknown setting was accepted"; fi
grep -q "'colour=red' in 'tiny:colour=red' is no setting=value; settings are damping" message ||
  fail "said of colour: $(cat message)"
if "$program" --methods tiny:gamma=0.1:first=0.05 --out third 2>message; then fail "two amplitudes were accepted"; fi
grep -q "'tiny:gamma=0.1:first=0.05': amplitude.fixed leaves nothing to search for" message ||
  fail "said of two amplitudes: $(cat message)"
if "$program" --grow-after 3/2 --out third 2>message; then fail "epochs out of order were accepted"; fi
grep -q "give epochs in order" message || fail "said of 3/2: $(cat message)"
if "$program" --methods scratch,tiny --out third 2>message; then fail "a control of nothing was accepted"; fi
grep -q "'scratch' has no method before it" message || fail "said of scratch: $(cat message)"
