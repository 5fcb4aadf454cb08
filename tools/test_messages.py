# SPDX-License-Identifier: GPL-2.0
"""Tests of messages.py."""

import tempfile
import unittest
from pathlib import Path

import messages

RUST = r'''
// "a comment", and a quote: '"'
module! { name: "rovl", description: "not said" }
#[allow(dead_code, reason = "not said either")]
fn f() {
    refuse!(log, EINVAL, "{} {}: {} (it is on {})", role, name, why, fs);
    let why = "it is read-only, \
               all of it";
    pr_warn!("no \"{name}\" here\n");
}
#[cfg(test)]
mod tests { const X: &str = "of a test"; }
'''.replace("module! { name", "module! {\n    name").replace("said\" }", "said\"\n}")

SHELL = r'''
local no="cannot be built for $release:"
die "lacks: $(printf '%s\n' "${lacks[@]}"). Do:
    $todo"
echo "$no it takes $source of ${want:-any version}," \
	"and ${have:-none} is there" >&2
task "no message to be answered" x
'''

DOCUMENT = """
``not looked for``
  Above the first.

.. messages-of: mount.rs

``lowerdir 'DIR': it is read-only, all of it (it is on FS)``
  Do this.

``no "NAME" here``
  And ``a literal`` in a line is no term.

.. messages-of: others

``of the kernel``
  Do that.
"""


class Texts(unittest.TestCase):
    def test_rust(self) -> None:
        said = {" ".join(text.split()) for text in messages.rust_texts(RUST)}
        self.assertEqual(said, {"{} {}: {} (it is on {})", "it is read-only, all of it",
                                'no "{}" here'})

    def test_c(self) -> None:
        source = 'pr_err("rovl: no \'%s\' yet\\n", x); f("other");'
        self.assertEqual(list(messages.c_texts(source)), ["no '{}' yet"])

    def test_shell(self) -> None:
        self.assertEqual(list(messages.shell_texts(SHELL)), [
            "cannot be built for {}:", "lacks: {}. Do:", "{}",
            "{} it takes {} of {}, and {} is there"])

    def test_python(self) -> None:
        self.assertEqual(list(messages.python_texts('say(f"{x} is missing", "y")')),
                         ["{} is missing", "y"])


class Faults(unittest.TestCase):
    def faults(self, document: str, rust: str) -> list[str]:
        with tempfile.TemporaryDirectory() as directory:
            top = Path(directory)
            (top / "Documentation").mkdir()
            (top / messages.DOCUMENT).write_text(document, encoding="utf-8")
            (top / "mount.rs").write_text(rust, encoding="utf-8")
            return messages.faults(top)

    def test_the_same(self) -> None:
        self.assertEqual(self.faults(DOCUMENT, RUST), [])

    def test_a_message_that_has_gone(self) -> None:
        for old, new in (("(it is on {})", "(being on {})"), ("no \\\"{name}", "not \\\"{name}"),
                         ("all of it", "most of it")):
            found = self.faults(DOCUMENT, RUST.replace(old, new))
            self.assertTrue(any(": not a message of mount.rs: " in line for line in found), new)
            self.assertTrue(any("does not have this message" in line for line in found), new)

    def test_a_message_that_is_new(self) -> None:
        found = self.faults(DOCUMENT, RUST.replace("fn f", 'const N: &str = "one more";\nfn f'))
        self.assertEqual(len(found), 1)
        self.assertIn("mount.rs: one more", found[0])

    def test_one_in_parts(self) -> None:
        rust = 'fn f() { say(&[b"option \'", key, b"\' is left out"].concat()); }'
        term = "``option '...' is left out``\n  So.\n"
        self.assertEqual(self.faults(f".. messages-of: mount.rs\n\n{term}", rust), [])
        term = term.replace("left", "let")
        self.assertEqual(len(self.faults(f".. messages-of: mount.rs\n\n{term}", rust)), 2)


if __name__ == "__main__":
    unittest.main()
