# SPDX-License-Identifier: GPL-2.0
"""Whether Documentation/troubleshooting.rst and the messages of the source are the same.

In the document a message is a term of its own: a line that is one ``literal`` at the left
margin, with what it means indented below. After a comment

    .. messages-of: FILE...

each such term is a message of one of these files, word by word; after `.. messages-of: others`
it is somebody else's and not looked for. In a term, words in capitals (DIR, FS), numbers and
what is in quotes stand for what differs; of a message that is put together from parts, `...`
stands for all that is between them. Every message of the files in COMPLETE is there.

    python3 tools/messages.py [CHECKOUT]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = "Documentation/troubleshooting.rst"
OTHERS = "others"
# What these say is answered, all of it.
COMPLETE = ("mount.rs", "mount/*.rs", "vfs/fs_context.rs", "rust_overlay.rs", "vfs/params.c",
            "lookup.rs", "lookup/*.rs", "private.rs", "namespace.rs", "whiteout.rs", "layers.rs",
            "tools/mount-rovl/src/*.rs", "tools/rust-metadata", "debian/rovl-dkms.dkms",
            "debian/initramfs-root/rovl")
GAP = "{}"
# What may stand in the document where the source has a gap.
VARIABLE = r"(?:'[^']*'|\"[^\"]*\"|[A-Z][A-Z:]*|\d+|(?:lower|upper|work)dir)"
# Of shell scripts only these commands speak to the user.
SPEAKS = r"^(?:.*[ \t])?(?:(?:echo|die|say|fail|panic)[ \t]+|no=)"


def rust_texts(source: str) -> Iterator[str]:
    """The strings of a source in Rust, but for its tests and attributes."""
    source = source.partition("#[cfg(test)]")[0]
    source = re.sub(r"(?m)//.*$|#\[.*\]$", "", source)
    source = re.sub(r"(?ms)^module! \{.*?^\}", "", source)
    source = re.sub(r"b?'(?:[^'\\]|\\.)'", "", source)
    for text in re.findall(r'"((?:[^"\\]|\\.)*)"', source, re.DOTALL):
        text = re.sub(r"\\\n\s*", "", text).replace('\\"', '"').replace("\\n", "")
        yield re.sub(r"\{[^}]*\}", GAP, text)


def c_texts(source: str) -> Iterator[str]:
    """What a source in C gives to printk."""
    for text in re.findall(r'pr_\w+\("((?:[^"\\]|\\.)*)"', source):
        yield text.replace("\\n", "").removeprefix("rovl: ").replace("%s", GAP)


def shell_texts(source: str) -> Iterator[str]:
    """What a shell script says by the commands that do."""
    source = re.sub(r'rovl_why="', 'echo "', source)
    source = re.sub(r'" \\\n\s*"', " ", source)
    source = re.sub(r'\$\([^()]*\)|\$\{[^}]*\}|\$(?:\w+|[*@])', GAP, source)
    for text in re.findall(SPEAKS + r'"([^"]*)"', source, re.MULTILINE):
        yield from (line.strip() for line in text.split("\n"))


def python_texts(source: str) -> Iterator[str]:
    """The strings of a source in Python."""
    for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"', source):
        yield re.sub(r"\{[^}]*\}", GAP, text)


def texts(path: Path) -> set[str]:
    """The messages and parts of messages in a file, with gaps."""
    source = path.read_text("utf-8")
    read = {".rs": rust_texts, ".c": c_texts, ".py": python_texts}.get(path.suffix, shell_texts)
    return {" ".join(text.split()) for text in read(source)} - {""}


def is_message(text: str) -> bool:
    """Whether a text says something by itself: two words at least, of which one is not
    a gap, and no code.
    """
    words = re.findall(r"[A-Za-z']{2,}", text.replace(GAP, ""))
    return len(words) >= 2 and " " in text


def pattern(text: str, gap: str) -> str:
    return gap.join(re.escape(part) for part in text.split(GAP))


@dataclass(frozen=True)
class Term:
    """A message in the document."""

    line: int
    text: str
    files: tuple[str, ...]      # none: it is somebody else's


def terms(document: str) -> Iterator[Term]:
    files: tuple[str, ...] = (OTHERS,)
    for i, line in enumerate(document.split("\n"), 1):
        if found := re.fullmatch(r"\.\. messages-of: (.+)", line):
            files = tuple(found[1].split())
        elif found := re.fullmatch(r"``(.+)``", line):
            yield Term(i, found[1], () if files == (OTHERS,) else files)


def is_of(term: str, of_source: set[str]) -> bool:
    """Whether the source makes such a message: a text, with others in its gaps."""
    if "..." in term:
        parts = [part.strip() for part in term.split("...")]
        return all(any(part in text for text in of_source) for part in parts)
    inner = [pattern(text, VARIABLE) for text in of_source if text != GAP]
    gap = f"(?:{'|'.join([VARIABLE, *sorted(inner, key=len, reverse=True)])})"
    return any(re.fullmatch(pattern(text, gap), term) for text in of_source if text != GAP)


def faults(top: Path) -> list[str]:
    """What one has and the other has not, a line each."""
    all_terms = list(terms((top / DOCUMENT).read_text("utf-8")))
    found = []
    of_files: dict[tuple[str, ...], set[str]] = {}
    for term in all_terms:
        if not term.files:
            continue
        if term.files not in of_files:
            paths = [path for name in term.files for path in sorted(top.glob(name))]
            of_files[term.files] = {text for path in paths for text in texts(path)}
        if not is_of(term.text, of_files[term.files]):
            found.append(f"{DOCUMENT}:{term.line}: not a message of {' '.join(term.files)}: "
                         f"{term.text}")
    answered = [term.text for term in all_terms]
    for name in COMPLETE:
        for path in sorted(top.glob(name)):
            for text in sorted(filter(is_message, texts(path))):
                if not any(re.search(pattern(text, ".+"), term) for term in answered):
                    found.append(f"{DOCUMENT}: does not have this message of "
                                 f"{path.relative_to(top)}: {text}")
    return found


def main() -> int:
    top = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    found = faults(top)
    print("\n".join(found) if found else "every message is answered")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
