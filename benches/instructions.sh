#!/usr/bin/env bash
# How many instructions a step that does nothing costs the whole runner, counted by callgrind: the same on any machine
# with the same compiler, however busy. Fails if a figure is more than 5 % over the one in instructions.txt;
# `instructions.sh --keep` writes the figures there instead. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."
kept=benches/instructions.txt
steps=10000
command -v valgrind >/dev/null || { echo "valgrind is not installed (apt-get install valgrind)"; exit 1; }

binary=$(cargo bench --locked --no-default-features --bench instructions --no-run --message-format json |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
[ -n "$binary" ] || { echo "the bench was not built"; exit 1; }

# What two runs and what six take: the difference is four runs, without what the process takes to start.
count() {
    local shape=$1 times=$2
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$shape" "$steps" "$times" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# What another compiler makes of it is nobody's fault.
same=0
grep -qF "$(rustc --version)" "$kept" 2>/dev/null && same=1
[ "$same" = 1 ] || echo "the figures that are kept are of another compiler: here is $(rustc --version)"

figures=""
failed=0
for shape in chain wide layered stencil tree; do
    two=$(count "$shape" 2)
    six=$(count "$shape" 6)
    now=$(((six - two) / (4 * steps)))
    figures+="$shape $now"$'\n'
    before=$(sed -n "s/^$shape //p" "$kept" 2>/dev/null || true)
    verdict=""
    if [ -n "$before" ] && [ "$same" = 1 ] && [ $((now * 100)) -gt $((before * 105)) ]; then
        verdict=": more than 5 % over it"
        failed=1
    fi
    printf '%8s %6s instructions a step (kept: %s)%s\n' "$shape" "$now" "${before:-none}" "$verdict"
done

if [ "${1:-}" = --keep ]; then
    printf '# Instructions a step, by shape, with %s. Written by instructions.sh --keep.\n%s' "$(rustc --version)" "$figures" >"$kept"
    exit 0
fi
if [ "$failed" = 1 ]; then
    sed -n 's/^# /kept: /p' "$kept"
    echo "here: $(rustc --version)"
fi
exit "$failed"
