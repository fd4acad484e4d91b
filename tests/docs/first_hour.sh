#!/bin/sh
# Play the README from a fresh virtual environment to the first total.
#
# The script types what the README shows: its install line, 'outlay serve --dev', its
# first program, and 'outlay costs'. It knows nothing that is not there. The folder of
# the checkout is the current one. Set PYTHON to try another interpreter.
set -eu

readme=$PWD/README.md
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$folder"' EXIT

# shown PATTERN: the command of the README that matches, without its prompt and comment.
shown() { sed -n "s/^\$ \($1.*\)/\1/p" "$readme" | sed 's/ *#.*//' | head -n 1; }

# program NUMBER: the Python block of the README with this number.
program() {
    awk -v wanted="$1" '
        /^```python$/ { number += 1; inside = number == wanted; next }
        /^```/ { inside = 0 }
        inside' "$readme"
}

echo "fresh environment in $folder"
"${PYTHON:-python3}" -m venv "$folder/venv"
PATH=$folder/venv/bin:$PATH
HOME=$folder XDG_STATE_HOME=$folder/state
export PATH HOME XDG_STATE_HOME
unset OUTLAY_BASE_URL OUTLAY_API_KEY OUTLAY_JOURNAL_DIR || true

install=$(shown "pip install '.\[server\]'")
echo "\$ $install"
eval "$install --quiet --disable-pip-version-check"

cd "$folder"
serve=$(shown "outlay serve --dev")
echo "\$ $serve"
$serve > serve.txt 2>&1 &
server=$!
tries=0
until grep -q "find it without settings" serve.txt; do
    tries=$((tries + 1))
    if test "$tries" -gt 300 || ! kill -0 "$server"; then
        cat serve.txt
        exit 1
    fi
    sleep 0.1
done
cat serve.txt

echo "\$ python first.py"
program 1 > first.py
python first.py

costs=$(shown "outlay costs")
echo "\$ $costs"
$costs > costs.txt
cat costs.txt

# The job ran twice, and was counted once.
grep -Eq "^ cus_123 +anthropic +0\.0042 +USD" costs.txt
grep -Eq "^ all +0\.0042 +USD" costs.txt
echo "the first total is right"
