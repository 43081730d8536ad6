#!/usr/bin/env bash
# Packs what a release has for this machine's target: the binary with licence, changelog, documents, manual page and
# completions, its bill of materials, and checksums. The same binary gives the same archive.
#
#     bash .ci/package.sh            builds the profile `dist` (many minutes)
#     bash .ci/package.sh BINARY     packs a binary that is built
#
# The result is in target/packed. With a version, RELEASE_VERSION=0.1.0, it has to be that of Cargo.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
target=$(rustc -vV | sed -n 's/^host: //p')
name=mcp-image-server-$version-$target
out=$PWD/target/packed
if [ -n "${RELEASE_VERSION:-}" ] && [ "$RELEASE_VERSION" != "$version" ]; then
    echo "RELEASE_VERSION is '$RELEASE_VERSION', but Cargo.toml has $version" >&2
    exit 1
fi

commit=$(git rev-parse --short HEAD)
binary=${1:-}
if [ -z "$binary" ]; then
    GIT_COMMIT=$commit cargo build --locked --profile dist --bin mcp-image-server
    binary=${CARGO_TARGET_DIR:-target}/dist/mcp-image-server
fi
"$binary" --version

rm -rf "$out"
mkdir -p "$out/$name"
install -m 755 "$binary" "$out/$name/mcp-image-server"
cp LICENSE README.md CHANGELOG.md .env.example "$out/$name/"
cp -r docs "$out/$name/docs"
"$binary" man >"$out/$name/mcp-image-server.1"
mkdir "$out/$name/completions"
"$binary" completions bash >"$out/$name/completions/mcp-image-server.bash"
"$binary" completions zsh >"$out/$name/completions/_mcp-image-server"
"$binary" completions fish >"$out/$name/completions/mcp-image-server.fish"
python3 .ci/sbom.py "$target" >"$out/$name.cdx.json"
cp "$out/$name.cdx.json" "$out/$name/sbom.cdx.json"
# Everything that could differ between two runs is set: order, times, owners.
tar --sort=name --mtime="@$(git log -1 --format=%ct)" --owner=0 --group=0 --numeric-owner -C "$out" -cf - "$name" |
    gzip -n9 >"$out/$name.tar.gz"
rm -rf "${out:?}/$name"
(cd "$out" && sha256sum "$name.tar.gz" "$name.cdx.json" >"$name.sha256")
cat "$out/$name.sha256"
