#!/usr/bin/env bash
# Does the wheel carry everything? Built from the sdist, installed with all its dependencies into an
# empty environment, used from an empty folder.
#
# PYTHON  an interpreter that has the package `build`
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

echo "wheel: build"
"$python" -m build --outdir "$scratch/dist" . >"$scratch/build.log" 2>&1 || {
    cat "$scratch/build.log"
    exit 1
}

echo "wheel: the same files as the source tree"
find labctl plugins recipes -type f ! -name '*.pyc' \
    | sed 's#^plugins/#labctl_plugins/#; s#^recipes/#labctl_recipes/#' \
    | LC_ALL=C sort >"$scratch/expected"
"$python" -m zipfile --list "$scratch"/dist/labctl-*.whl \
    | awk 'NR > 1 && $1 !~ /\.dist-info\// { print $1 }' \
    | LC_ALL=C sort >"$scratch/packed"
diff "$scratch/expected" "$scratch/packed"

echo "wheel: install into an empty environment"
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check "$scratch"/dist/labctl-*.whl
"$scratch/env/bin/pip" --disable-pip-version-check check

echo "wheel: use from an empty folder"
mkdir "$scratch/empty"
cd "$scratch/empty"
unset PYTHONPATH LABCTL_PROJECT LABCTL_RUNS LABCTL_DATA
labctl=$scratch/env/bin/labctl
"$labctl" ls | tee "$scratch/listing"
for name in ctd_vit ctd_gamma1.5; do
    grep -qw -- "$name" "$scratch/listing" || {
        echo "wheel: labctl ls does not show $name" >&2
        exit 1
    }
done
"$labctl" cp ctd_gamma1.5 mine.yaml
"$labctl" validate mine.yaml
echo "wheel: ok"
