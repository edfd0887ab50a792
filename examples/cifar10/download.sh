# Sourced by run.sh: fetches CIFAR-10 from its official page.
# shellcheck shell=bash

# cifar10_download <folder>: leaves <folder>/cifar-10-batches-bin. A download that was cut off goes on where it stopped;
# the archive is removed only once it is unpacked. CIFAR10_URL and CIFAR10_MD5 name another place and checksum.
cifar10_download() {
  local folder=$1
  local url=${CIFAR10_URL:-https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz}
  local sum=${CIFAR10_MD5:-c32a1d4ab5d03f1284b67883e8d87530}
  local archive=$folder/cifar-10-binary.tar.gz part=$folder/cifar-10-binary.tar.gz.part
  local target=$folder/cifar-10-batches-bin
  if [[ -f $target/data_batch_5.bin && -f $target/test_batch.bin ]]; then
    echo "CIFAR-10 is in $target already." >&2
    return 0
  fi
  if ! { mkdir -p "$folder" && [[ -w $folder ]]; }; then
    echo "run.sh: $folder cannot be written to; start it in another folder" >&2
    return 1
  fi
  if [[ ! -f $archive ]]; then
    echo "Fetching $url (162 MB) into $folder" >&2
    if ! cifar10_fetch "$url" "$part"; then
      local kept=
      [[ ! -s $part ]] || kept=": what has arrived is kept in $part"
      echo "run.sh: $url could not be fetched; see to the network and start again$kept" >&2
      return 1
    fi
    mv -- "$part" "$archive"
  fi
  if ! echo "$sum  $archive" | md5sum --check --status; then
    rm -f -- "$archive"
    echo "run.sh: the checksum of $archive is not $sum, so it was damaged on its way and is removed; start again" >&2
    return 1
  fi
  # Unpacked beside its place, so that a folder that is there is whole.
  local unpacked
  unpacked=$(mktemp -d "$folder/cifar-10.XXXXXX")
  if ! tar -xzf "$archive" -C "$unpacked" || [[ ! -f $unpacked/cifar-10-batches-bin/test_batch.bin ]]; then
    rm -rf -- "$unpacked"
    echo "run.sh: $archive cannot be unpacked; make room on the disk (200 MB) and start again" >&2
    return 1
  fi
  rm -rf -- "$target"
  mv -- "$unpacked/cifar-10-batches-bin" "$target"
  rm -rf -- "$unpacked" "$archive"
  echo "CIFAR-10 is in $target." >&2
}

# cifar10_fetch <url> <file>: goes on where <file> ends. A file that is whole, or longer than it can be, is no reason
# to fail: the checksum decides.
cifar10_fetch() {
  local url=$1 file=$2 status=0
  local show=(--silent --show-error)
  [[ -t 2 ]] && show=(--progress-bar)
  if command -v curl >/dev/null; then
    curl --fail --location "${show[@]}" --retry 3 --retry-delay 1 --connect-timeout 20 -C - -o "$file" "$url" || status=$?
    # A server that cannot go on (33), or a range that starts at the end (416, told as 22).
    if ((status == 33 || status == 22)) && [[ -s $file ]]; then
      status=0
      curl --fail --location "${show[@]}" --connect-timeout 20 -o "$file.again" "$url" || status=$?
      if ((status == 0)); then mv -- "$file.again" "$file"; else rm -f -- "$file.again"; fi
    fi
    return "$status"
  fi
  if command -v wget >/dev/null; then
    wget -q --tries=3 --timeout=20 -c -O "$file" "$url"
    return
  fi
  echo "run.sh: there is neither curl nor wget; install one of them" >&2
  return 1
}
