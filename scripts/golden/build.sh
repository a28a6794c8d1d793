#!/usr/bin/env bash
# Builds the classic stack that scripts/golden runs M2FP's reference in; about 20 minutes, 6 GB.
#
#     scripts/golden/build.sh FOLDER [PYTHON]
#
# FOLDER becomes a virtual environment. PYTHON (python3.10 on PATH by default) is a Python 3.10 with
# its headers; a C++ compiler is needed, too.
set -euo pipefail

folder=${1:?usage: scripts/golden/build.sh FOLDER [PYTHON]}
python=${2:-python3.10}
requirements=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/requirements.txt

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' || {
    echo "scripts/golden/build.sh: $python is not Python 3.10" >&2
    exit 2
}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip install --quiet)

# mmcv-full is published as source alone and compiles against the torch that is already there.
first=$(grep -v '^mmcv-full' "$requirements")
last=$(grep '^mmcv-full' "$requirements")
"${pip[@]}" --requirement <(printf '%s\n' "$first") wheel ninja
MMCV_WITH_OPS=1 FORCE_CUDA=0 MAX_JOBS="${MAX_JOBS:-$(nproc)}" \
    "${pip[@]}" --no-build-isolation --no-binary mmcv-full "$last"
"$folder/bin/python" -c 'import mmcv.ops, modelscope, torch; print("torch", torch.__version__,
      "modelscope", modelscope.__version__, "mmcv-full", mmcv.__version__)'
