#!/usr/bin/env bash
# Asks the objectives of tests/judged again, of the documents that their quotes were judged in, and prints how many of
# the quotes are to the point. Needs Debian 12 (apt-get, dpkg, groff, col), cargo and about 200 MB.
# usage: tests/external/judged.sh [FOLDER FOR THE DOCUMENTS]
set -euo pipefail
cd "$(dirname "$0")/../.."
corpora=$(realpath -m "${1:-$(mktemp -d)}")

# The versions that were judged.
packages=(
    sqlite3-doc=3.40.1-2+deb12u2 git-doc=1:2.39.5-0+deb12u3 rsyslog-doc=8.2302.0+dfsg-1
    git-man=1:2.39.5-0+deb12u3 manpages=6.03-2 manpages-dev=6.03-2
    haproxy-doc=2.6.12-1+deb12u4 postfix-doc=3.7.11-0+deb12u1
    bash=5.2.15-2+b13 openssh-client=1:9.2p1-2+deb12u10 rsync=3.5.0+ds1-0+deb12u1
)
crates=(
    clap_builder-4.6.7 dashmap-6.2.1 futures-util-0.3.34 hyper-1.12.0 indexmap-2.14.2 petgraph-0.8.3
    regex-1.13.1 reqwest-0.13.5 rusqlite-0.41.1 rustix-1.1.6 serde-1.0.229 serde_json-1.0.154 tokio-1.54.1
    tracing-0.1.44
)
frameworks=(aho-corasick-1.1.5 axum-0.8.9 ignore-0.4.34 proptest-1.12.0 tower-0.5.3)

if [ ! -e "$corpora/complete" ]; then
    mkdir -p "$corpora"/{packages,docs,servers,crates,frameworks,man,shell}
    (
        cd "$corpora/packages"
        apt-get download -q "${packages[@]}"
        for package in *.deb; do dpkg -x "$package" "${package%%_*}"; done
        # Links to what is in packages that are not here.
        find . -xtype l -delete
    )
    cp -r "$corpora/packages/sqlite3-doc/usr/share/doc" "$corpora/docs/sqlite"
    cp -rL "$corpora/packages/git-doc/usr/share/doc/git" "$corpora/docs/git"
    cp -rL "$corpora/packages/rsyslog-doc/usr/share/doc/rsyslog-doc" "$corpora/docs/rsyslog"
    cp -rL "$corpora/packages/haproxy-doc/usr/share/doc/haproxy" "$corpora/servers/haproxy"
    cp -rL "$corpora/packages/postfix-doc/usr/share/doc/postfix" "$corpora/servers/postfix"
    find "$corpora"/{docs,servers} -name '*.gz' -exec gunzip -f {} +

    cargo fetch --locked
    for crate in "${crates[@]}"; do
        cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$crate" "$corpora/crates/"
    done
    for crate in "${frameworks[@]}"; do
        cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$crate" "$corpora/frameworks/"
    done

    # The manual pages of packages, as text in a folder.
    pages() {
        local folder=$corpora/$1 package
        for package in "${@:2}"; do
            find "$corpora/packages/$package" -path '*/man/man*' -name '*.gz' -type f
        done | while read -r page; do
            zcat "$page" | groff -mandoc -Tutf8 -rLL=100n 2>/dev/null | col -bx >"$folder/$(basename "$page" .gz).txt"
        done
    }
    pages man git-man manpages manpages-dev
    pages shell bash openssh-client rsync
    touch "$corpora/complete"
fi
PLANDAG_CORPORA=$corpora cargo test --locked --test judged -- --nocapture --test-threads 1
