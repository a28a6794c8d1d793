# Sourced by scripts/check and scripts/test, after _environment.sh: how a check is run and judged,
# and the checks that read the code and run nothing of it.

# begin_checks: the environment, a folder for what checks leave behind, the root as the folder.
begin_checks() {
    cd "$root"
    prepare "[dev]"
    bin=$venv/bin
    export PATH="$bin:$PATH" # pyright looks for its Python there
    scratch=$(mktemp -d)
    passed=()
    declare -gA beside=()
    trap '[ "${#beside[@]}" = 0 ] || kill "${beside[@]}" 2>/dev/null; rm -rf "$scratch"' EXIT
}

# begin NAME COMMAND...: runs it beside what follows; `await NAME` shows and judges it.
begin() {
    "${@:2}" >"$scratch/$1.log" 2>&1 &
    beside[$1]=$!
}

await() {
    local status=0
    wait "${beside[$1]}" || status=$?
    unset "beside[$1]"
    cat "$scratch/$1.log"
    return "$status"
}

# step NAME COMMAND...: the first that fails ends the script.
step() {
    local name=$1
    shift
    printf '\n=== %s\n' "$name"
    if "$@"; then
        passed+=("$name")
        return
    fi
    printf '\n=== FAILED: %s (passed before it: %s)\n' "$name" "${passed[*]-none}"
    exit 1
}

static_checks() {
    begin mypy "$bin/mypy" # one core, and the others another
    step "ruff check" "$bin/ruff" check
    step "ruff format" "$bin/ruff" format --check
    step "pyright" "$bin/pyright"
    step "import contracts" "$bin/lint-imports"
    step "mypy" await mypy
}

end_checks() {
    printf '\n=== all %d steps passed: %s\n' "${#passed[@]}" "$(IFS=,; echo "${passed[*]}")"
}
