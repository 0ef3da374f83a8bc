#!/bin/sh
# Lays out the sample project with Sentinel's dbt package beside it, and builds it. Run again after
# an edit: the daemon notices by itself.
set -eu
source=${1:-/source}
to=${2:-/project}
for each in dbt_project.yml dbt_package macros sample_project; do
    cp -R "$source/$each" "$to/"
done
cd "$to/sample_project"
# Others than this machine can reach the daemon in its container: what is beyond health asks for it.
cat >> sentinel.yml <<'EOF'
web:
  token: {env: SENTINEL_WEB_TOKEN}
EOF
dbt deps
dbt build
