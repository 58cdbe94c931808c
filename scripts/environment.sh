# Sourced by ./run and ./test, which set `root`. One function: `ensure_environment run|test|browser` makes
# sure that .venv holds what the command needs, and says nothing when it already does.

# Sets `python` to one that is new enough and can make virtual environments, or prints one line that
# says what to install.
find_python() {
    too_old=""
    without_venv=""
    for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
            continue
        if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            too_old=${too_old:-$version}
        elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            without_venv=${without_venv:-$version}
        else
            python=$candidate
            return 0
        fi
    done
    if [ -n "$without_venv" ]; then
        problem="Python $without_venv is here, but its venv module is not."
        install="sudo apt install python$without_venv-venv"
    else
        problem="sightline needs Python 3.11 or newer; found ${too_old:-none}."
        install="sudo apt install python3.11 python3.11-venv"
    fi
    if [ "$(uname -s)" = Darwin ]; then
        install="brew install python@3.12"
    fi
    echo "$problem Install it, for example: $install" >&2
    return 1
}

# What the installed environment depends on: the requirements, what is compiled, the place of the
# checkout and the interpreter. A change of any of them leads to a new installation.
environment_key() {
    cat "$root/pyproject.toml" "$root/hatch_build.py" "$root"/src/sightline/models/cpu/*.[ch] | cksum &&
        printf '%s\n' "$root" &&
        "$root/.venv/bin/python" -I -S -c 'import sys; print(sys.version)' 2>/dev/null
}

ensure_environment() {
    stamp="$root/.venv/.sightline-$1"
    if [ -f "$stamp" ] && [ "$(environment_key)" = "$(cat "$stamp")" ]; then
        return 0
    fi
    find_python || return 2
    "$python" "$root/scripts/install.py" "$1" || return
    # Written last, so that an interrupted installation is never taken for a finished one.
    environment_key >"$stamp.part" && mv "$stamp.part" "$stamp"
    # What tests need includes what running needs, and a browser's tests need both.
    case $1 in
    browser) cp "$stamp" "$root/.venv/.sightline-test" && cp "$stamp" "$root/.venv/.sightline-run" ;;
    test) cp "$stamp" "$root/.venv/.sightline-run" ;;
    esac
}
