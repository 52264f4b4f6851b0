#!/usr/bin/env bash
# Installs Detectron2 for the Python named as first argument.
#   DETECTRON2=wheel (default): the pure-Python wheel of sal-detectron2 0.7.2, checked by SHA-256.
#       Its Python files are upstream's at a59f0563; its name says CPython 3.10, but nothing in it
#       needs that (the compiled part it carries is optional and not loaded elsewhere).
#   DETECTRON2=git: the official build from source (needs a C++ compiler and access to GitHub).
set -euo pipefail
python=${1:?usage: install_detectron2.sh PYTHON}
version=0.7.2
sha256=491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561
commit=02b5c4e2

case "${DETECTRON2:-wheel}" in
git)
    echo "== Detectron2: building upstream commit $commit from source"
    "$python" -m pip install -q --no-build-isolation \
        "git+https://github.com/facebookresearch/detectron2.git@$commit"
    ;;
wheel)
    echo "== Detectron2: downloading the wheel of sal-detectron2 $version"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.10 \
        --implementation cp --abi none --platform any -d "$folder" "sal-detectron2==$version"
    original="$folder/sal_detectron2-$version-cp310-none-any.whl"
    echo "== Detectron2: checking SHA-256"
    "$python" - "$original" "$sha256" <<'PYTHON'
import hashlib, sys
path, wanted = sys.argv[1:]
with open(path, "rb") as f:
    found = hashlib.sha256(f.read()).hexdigest()
if found != wanted:
    sys.exit(f"{path}: SHA-256 is {found}, expected {wanted}; refusing to install it. "
             "Use DETECTRON2=git to build Detectron2 from its own repository.")
PYTHON
    renamed="$folder/sal_detectron2-$version-py3-none-any.whl"
    mv "$original" "$renamed"
    "$python" -m pip install -q --no-deps "$renamed"
    ;;
*)
    echo "DETECTRON2=${DETECTRON2} is neither 'wheel' nor 'git'" >&2
    exit 2
    ;;
esac
"$python" -c "import detectron2; print('== Detectron2', detectron2.__version__, 'installed')"
