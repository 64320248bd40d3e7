#!/usr/bin/env bash
# The image of the Dockerfile, built and used as its first lines say: trained in, stopped, resumed, calibrated, mapped and reviewed as user 1000
# without network, on the tests' small sample, written to docs/container.md. Half an hour to an hour on two CPU cores, 20 GB of disk; no GPU is used.
#
#   bash bench/container.sh                          where the base image can be pulled
#   BASE=rootfs.tar bash bench/container.sh          imports a base that was made elsewhere, under the name that the Dockerfile asks for
#   bash bench/container.sh --make-base              makes that base here: Debian by debootstrap (as root), and this machine's Python in /usr/local
#
# IMAGE=rts_nb          the image's name
# BEFORE=image          one that was built of an earlier Dockerfile; its size is shown beside
# ENGINE=docker         or another command that takes the same words
# BUILD_OPTIONS="..."   more words for `docker build`, such as --network host
# RUN_OPTIONS="..."     more words for each `docker run`, such as --cpus 1
# PYTHON=python3.11     --make-base: the Python that is copied; one that is kept apart from the system's, as pyenv's is
# PIP_CONF=pip.conf     --make-base: pip's settings inside the base, where packages come from another index
#
# It ends at the first step that fails, with a line that names it and the file that holds its output.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

engine=${ENGINE:-docker}
image=${IMAGE:-rts_nb}
base=$(sed -n 's/^FROM \([^ ]*\).*/\1/p' Dockerfile | head -n 1)
page=docs/container.md
read -ra build_options <<<"${BUILD_OPTIONS:-}"
read -ra run_options <<<"${RUN_OPTIONS:-}"
work=$(mktemp -d)
log=$work/start.log
step="start"
exec 3>&2 # steps write to files; what fails is said here

# --- Steps: one at a time, timed, a row of the table each ---

milliseconds() { echo $(($(date +%s%N) / 1000000)); }

begin() {
  step=$1
  log=$work/$(tr -c 'a-z0-9\n' '-' <<<"$step").log
  began=$(milliseconds)
  echo "$step ..."
}

finish() {
  local took=$(($(milliseconds) - began))
  printf '| %s | %s | %d.%d |\n' "$step" "$1" $((took / 1000)) $((took % 1000 / 100)) | tee -a "$work/steps"
}

# Said of a step that did its work but not as it should.
refuse() {
  echo "$1" >>"$log"
  return 1
}

# What a failure leaves: one line, the output of its step, and no container that still runs.
report_failure() {
  test "$BASH_SUBSHELL" = 0 || exit 1 # what called the subshell fails next, and says it
  trap - ERR
  echo "bench/container.sh: step '$step' failed: $(tail -n 1 "$log" 2>/dev/null); its output: $log" >&3
  remove_containers
  exit 1
}

remove_containers() {
  "$engine" ps --all --quiet --filter "label=rts_bench=$$" 2>/dev/null | xargs -r "$engine" rm --force >/dev/null || true
}

# The mounted folders belong to user 1000, who may not be the one who types this: the image's own root removes what is in them.
clean_up() {
  remove_containers
  as_root rm -rf /mnt/data /mnt/whole /mnt/stopped /mnt/cache 2>/dev/null || true
  rm -rf "$work"
}

interrupt() {
  step="$step, interrupted"
  report_failure
}

trap report_failure ERR
trap interrupt INT TERM

# --- Containers: as the Dockerfile's head starts them, but without a GPU and without network ---

as_root() { "$engine" run --rm --network none --user 0 -v "$work:/mnt" "$image" "$@"; }

# A container's words in front of the image's name; the first argument is the folder of runs.
mounts() {
  options=(
    --init --stop-timeout 120 --network none --shm-size 1g
    --label "rts_bench=$$"
    -e RTS_CONFIG=configs/test.yaml
    -e OMP_NUM_THREADS=1
    -v "$work/data:/app/data"
    -v "$work/$1:/app/runs"
    -v "$work/cache:/home/rts/.cache"
    ${run_options[@]+"${run_options[@]}"}
  )
}

run() {
  mounts "$1"
  "$engine" run --rm "${options[@]}" "$image" "${@:2}" >"$log" 2>&1
}

report() {
  local name=$1
  run stopped papermill --no-progress-bar --stdout-file - "nbs/$name.ipynb" "runs/test/seed-42/notebooks/$name.ipynb" "${@:2}"
}

# --- The base ---

make_base() {
  local rootfs=$work/rootfs python=${PYTHON:-python3.11} prefix version
  prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
  version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  test "$prefix" != /usr || refuse "$python is the system's; name one that is kept apart: PYTHON=/path/to/bin/python3.11"
  # What a Python of its own takes from the system. Not libexpat1: the Dockerfile says that it brings it.
  local libraries=ca-certificates,libbz2-1.0,libffi8,liblzma5,libncursesw6,libnsl2,libreadline8,libsqlite3-0,libssl3,libtirpc3,libuuid1
  debootstrap --variant=minbase --include="$libraries,netbase,tzdata,zlib1g" bookworm "$rootfs"
  # As the images of Debian do: no documents, and no package's archive stays once it is installed.
  cat >"$rootfs/etc/apt/apt.conf.d/docker-clean" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
  rm -rf "$rootfs"/usr/share/{doc,man,info,locale}/* "$rootfs"/var/cache/apt/*.bin "$rootfs"/var/lib/apt/lists/*
  chroot "$rootfs" apt-get clean
  (cd "$prefix" && tar -c --exclude=site-packages --exclude=__pycache__ --exclude="$version/test" --exclude='*.a' \
    "bin/$version" include lib/libpython3* "lib/$version") | tar -x -C "$rootfs/usr/local"
  chroot "$rootfs" ldconfig
  ln -s "$version" "$rootfs/usr/local/bin/python3"
  ln -s "$version" "$rootfs/usr/local/bin/python"
  # The certificates of this machine, where its network has one of its own.
  if test -e /etc/ssl/certs/ca-certificates.crt; then cp /etc/ssl/certs/ca-certificates.crt "$rootfs/etc/ssl/certs/"; fi
  if test -n "${PIP_CONF:-}"; then cp "$PIP_CONF" "$rootfs/etc/pip.conf"; fi
  chroot "$rootfs" python3 -m ensurepip --default-pip
  tar -c -C "$rootfs" . | "$engine" import --change 'ENV LANG=C.UTF-8' - "$base"
  rm -rf "$rootfs"
}

# shellcheck disable=SC2153  # BASE is the file that was named, base what the Dockerfile asks for
import_base() { "$engine" import --change 'ENV LANG=C.UTF-8' "$BASE" "$base"; }

get_base() {
  begin "base image"
  local how=pulled
  if test "${1:-}" = --make-base; then
    how="Debian bookworm by debootstrap, with this machine's Python in /usr/local"
    make_base >"$log" 2>&1
  elif test -n "${BASE:-}"; then
    how="imported from a file"
    import_base >"$log" 2>&1
  else
    "$engine" pull "$base" >"$log" 2>&1
  fi
  finish "\`$base\`, $how; $(size_of "$base")"
}

# --- The image ---

megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.0f MB", bytes / 1e6 }'; }
size_of() { megabytes "$("$engine" image inspect --format '{{.Size}}' "$1")"; }

build() {
  begin "build"
  commit=$(git describe --always --dirty --abbrev=12 --exclude='*')
  "$engine" build -t "$image" --build-arg "COMMIT=$commit" ${build_options[@]+"${build_options[@]}"} . >"$log" 2>&1
  finish "of commit \`$commit\`"
}

measure() {
  begin "size"
  local seen
  seen=$(size_of "$image")
  if test -n "${BEFORE:-}"; then seen="$seen; before, $(size_of "$BEFORE")"; fi
  "$engine" history --no-trunc --human=false --format '{{.Size}} {{.CreatedBy}}' "$image" | write_layers >"$work/layers"
  "$engine" run --rm --network none "$image" bash -c 'du -sm /usr /usr/local /home/rts/venv/lib/python3*/site-packages/* /app' \
    | sort -rn | sed 's#/home/rts/venv/lib/python3[^/]*/##' | awk 'NR <= 16 { printf "| `%s` | %s |\n", $2, $1 }' >"$work/folders"
  finish "$seen"
}

# Layers that hold something, newest first; the command as the Dockerfile has it, its blanks made one.
write_layers() {
  sed -E 's#/bin/sh -c (\#\(nop\) +)?##; s#\|[0-9]+ COMMIT=[^ ]* ##; s# *\# buildkit##; s#(dir|file):[0-9a-f]{64} in # #; s/[[:space:]]+/ /g' |
    awk '$1 >= 1e5 { size = $1; $1 = ""; sub(/^ /, ""); gsub(/\|/, "\\|")
      if (length($0) > 110) $0 = substr($0, 1, 107) "..."
      printf "| %.1f | `%s` |\n", size / 1e6, $0 == "" ? "the base" : $0 }'
}

make_folders() {
  begin "folders of user 1000"
  mkdir "$work"/{data,whole,stopped,cache}
  as_root bash -c 'chown 1000:1000 /mnt/data /mnt/whole /mnt/stopped /mnt/cache' >"$log" 2>&1
  finish "data, runs and a cache, empty"
}

# --- What runs in it ---

identity() {
  begin "user and network"
  # shellcheck disable=SC2016  # the container's shell expands it
  run whole bash -c 'echo "$(id -un) $(id -u):$(id -g), interfaces: $(ls /sys/class/net | xargs), .git: $(ls -d .git 2>/dev/null || echo none)"'
  local seen
  seen=$(tail -n 1 "$log")
  test "$seen" = "rts 1000:1000, interfaces: lo, .git: none" || refuse "expected rts 1000:1000 with the loopback alone, found $seen"
  finish "$seen"
}

refuse_without_data() {
  begin "the image's own command, nothing mounted"
  local status=0
  "$engine" run --rm --init --network none --label "rts_bench=$$" "$image" >"$log" 2>&1 || status=$?
  test "$status" = 1 || refuse "expected exit status 1 of configs/baseline.yaml without data, found $status"
  finish "exit status $status: $(tail -n 1 "$log" | tr '|' '/')"
}

weights() { sha256sum "$work/$1/test/seed-42/model.safetensors" | cut -c -64; }
epochs() { grep -E '^epoch ' "$log" | sed -E 's/^epoch ([0-9]+).*/\1/' | xargs; }

train_whole() {
  begin "training, not stopped"
  run whole python -m rts_nb.train
  whole=$(weights whole)
  finish "epochs $(epochs), weights \`${whole:0:12}\`"
}

# SIGTERM a moment after the first epoch is reported, which is in the middle of the second.
stop_training() {
  begin "docker stop in mid-training"
  local name=rts_bench_$$ waited=0 asked status took
  mounts stopped
  "$engine" run --detach --name "$name" "${options[@]}" "$image" python -m rts_nb.train >"$log" 2>&1
  until "$engine" logs "$name" 2>/dev/null | grep -q '^epoch 1/'; do
    waited=$((waited + 1))
    test "$waited" -lt 600 || refuse "no epoch within ten minutes"
    sleep 1
  done
  sleep 3
  asked=$(milliseconds)
  "$engine" stop "$name" >/dev/null
  took=$(($(milliseconds) - asked))
  "$engine" logs "$name" >"$log" 2>&1
  status=$("$engine" inspect --format '{{.State.ExitCode}}' "$name")
  "$engine" rm "$name" >/dev/null
  test "$status" = 143 || refuse "expected exit status 143 of a SIGTERM, found $status"
  test ! -e "$work/stopped/test/seed-42/model.safetensors" || refuse "training had ended before it was stopped"
  finish "exit status $status, $((took / 1000)).$((took % 1000 / 100)) s after the signal: $(tail -n 1 "$log")"
}

resume() {
  begin "the same command again"
  run stopped python -m rts_nb.train
  local resumed
  resumed=$(weights stopped)
  test "$resumed" = "$whole" || refuse "weights $resumed of the resumed run, $whole of the one that was not stopped"
  finish "epochs $(epochs), weights \`${resumed:0:12}\`: the same as unstopped"
}

executed() { test -s "$work/stopped/test/seed-42/notebooks/$1.ipynb" || refuse "there is no executed $1.ipynb"; }
count() { (cd "$work/stopped/test/seed-42" && find . -path "./$1" -type f | wc -l); }

train_report() {
  begin "20_train, executed on the finished run"
  report 20_train -p config configs/test.yaml
  executed 20_train
  test "$(weights stopped)" = "$whole" || refuse "the report changed the weights"
  finish "report executed, weights as they were"
}

calibrate() {
  begin "30_calibrate"
  report 30_calibrate -p run_dir runs/test/seed-42 -p evaluate true -p compare none
  executed 30_calibrate
  finish "report executed, $(count 'calibration*') file(s) of calibration"
}

map_scenes() {
  begin "40_infer"
  report 40_infer -p model_dir runs/test/seed-42 -p out_dir runs/test/seed-42/map
  executed 40_infer
  test -s "$work/stopped/test/seed-42/map/rts.gpkg" || refuse "there is no map/rts.gpkg"
  finish "report executed, $(count 'map/*.tif') rasters, \`rts.gpkg\` and $(count 'map/*.html') page(s)"
}

review() {
  begin "45_review"
  report 45_review -p map_dir runs/test/seed-42/map
  executed 45_review
  finish "report executed, $(count 'map-review*/*.html') page(s) to review"
}

owners() {
  begin "owners on the host"
  local files others
  files=$(find "$work"/{data,whole,stopped,cache} -type f | wc -l)
  others=$(find "$work"/{data,whole,stopped,cache} ! -uid 1000 | wc -l)
  test "$others" = 0 || refuse "$others files do not belong to user 1000"
  finish "$files files, all of user 1000"
}

# Without network nothing can arrive; what asks for it shows in the output.
downloads() {
  begin "downloads"
  local asked signs='name resolution|network is unreachable|max retries|connection error|urlopen error'
  asked=$(grep -l -i -E "$signs" --exclude=base-image.log --exclude=build.log "$work"/*.log | xargs -r -n 1 basename || true)
  test -z "$asked" || refuse "the network was asked for: $asked"
  finish "no step asked for the network; weights in the cache: $(find "$work/cache" -name '*.safetensors' -o -name '*.pth' -o -name '*.bin' | wc -l)"
}

# --- The page ---

machine() {
  local cpus memory load
  cpus=$(nproc)
  memory=$(awk '/MemTotal/ { printf "%.0f", $2 / 2 ^ 20 }' /proc/meminfo)
  load=$(cut -d ' ' -f 3 /proc/loadavg)
  echo "$cpus cores ($(uname -m)), $memory GiB, load of the last quarter of an hour $load; engine $("$engine" version --format '{{.Server.Version}}')"
}

write_page() {
  {
    echo "# The container"
    echo
    echo "\`bash bench/container.sh\`, $(date +%F), $(machine). The image of the \`Dockerfile\`, used as its first lines say, but without a GPU:"
    echo "\`configs/test.yaml\` on one thread, as user 1000, \`--network none\`, data, runs and cache mounted from folders of user 1000."
    echo
    echo "| step | what was seen | seconds |"
    echo "|---|---|---|"
    cat "$work/steps"
    echo
    echo "## Layers"
    echo
    echo "Newest first; those below 0.1 MB are left out."
    echo
    echo "| MB | made by |"
    echo "|---|---|"
    cat "$work/layers"
    echo
    echo "## Folders"
    echo
    echo "The largest of the system, of the packages and of the project, as \`du\` counts them in the container."
    echo
    echo "| folder | MiB |"
    echo "|---|---|"
    cat "$work/folders"
  } >"$page"
}

case ${1:-} in
"" | --make-base) ;;
*) echo "usage: [BASE=rootfs.tar] bash bench/container.sh [--make-base]" >&2 && exit 2 ;;
esac
"$engine" version >"$log" 2>&1
get_base "$@"
build
measure
make_folders
identity
refuse_without_data
train_whole
stop_training
resume
train_report
calibrate
map_scenes
review
owners
downloads
write_page
clean_up
echo "Done: $page"
