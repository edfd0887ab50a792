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

"$program" --images 100 --test-images 50 --epochs 3 --grow-every 1 --grow-until 2 --seeds 2 --units 2 \
  --methods tiny,gradmax-copied,net2wider --out first >table
for method in small large tiny gradmax-copied net2wider; do
  grep -q "^| $method | [0-9.]* ± [0-9.]* | [0-9]* | " table || fail "no row for $method in $(cat table)"
  # three epochs of two seeds
  [ "$(grep -c "^$method,[01],[123],[0-9.]*,[0-9.]*,[0-9.]*$" first.csv)" -eq 6 ] || fail "lines of $method in first.csv"
  grep -q ">$method</text>" first.svg || fail "the plot does not name $method"
done
# The copies and what grew at once have the widths of the network that was large from the beginning.
[ "$(grep '^large,0,3,' first.csv | cut -d, -f4)" = "$(grep '^net2wider,0,3,' first.csv | cut -d, -f4)" ] ||
  fail "net2wider ends with another size than large"
if grep -qiE 'nan|inf' first.svg first.csv; then fail "a number is not finite"; fi
# Ticks and other numbers are round: at most one digit behind the point.
if grep -qE '>-?[0-9]*\.[0-9]{2,}[kMGTP]?</text>' first.svg; then fail "an odd number in the plot"; fi

"$program" --redraw first.csv --out second
cmp first.svg second.svg || fail "the plot drawn from the numbers is another"
echo "method,seed" >bad.csv
if "$program" --redraw bad.csv --out third 2>message; then fail "a table of something else was drawn"; fi
grep -q "bad.csv does not begin with 'method,seed,epoch" message || fail "said of bad.csv: $(cat message)"
if "$program" --methods magic --out third 2>message; then fail "an unknown method was accepted"; fi
grep -q "there is no growth method 'magic'" message || fail "said of magic: $(cat message)"
