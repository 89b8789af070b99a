"""From the text of a PTX module to kernels: registers by type, labels, instructions."""

import re
from dataclasses import dataclass, field

BITS = {"pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2}
BITS |= dict.fromkeys(("b32", "u32", "s32", "f32"), 4) | dict.fromkeys(("b64", "u64", "s64", "f64"), 8)


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``@!%p1 add.s32 %r1, %r2, 3``."""

    words: tuple[str, ...]  # of the opcode, between dots
    operands: tuple[str, ...]
    predicate: str | None
    negated: bool
    place: tuple[
        tuple[str, int], ...
    ] = ()  # in the source, if known: file and line, and those it is inlined at

    def __str__(self):
        guard = f"@{'!' * self.negated}{self.predicate} " if self.predicate else ""
        return f"{guard}{'.'.join(self.words)} {', '.join(self.operands)}"


@dataclass
class Kernel:
    """An entry of the module."""

    name: str
    parameter: str  # the name of its one parameter, a structure
    parameter_bytes: int
    registers: dict[str, str] = field(default_factory=dict)  # types
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    places: dict[tuple[str, ...], tuple[tuple[str, int], ...]] = field(default_factory=dict)
    place: tuple[tuple[str, int], ...] = ()  # of what comes next


def parse(text):
    """The kernels of a module by name, and the name of its dynamic shared memory (None without)."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    shared = re.search(r"\.extern\s+\.shared\s+\.align\s+\d+\s+\.b8\s+(\w+)\[\]", text)
    files = {
        number: path.rsplit("/", 1)[-1] for number, path in re.findall(r'\.file\s+(\d+)\s+"([^"]+)"', text)
    }
    kernels = {}
    entry = r"\.entry\s+(\w+)\s*\(\s*\.param\s+\.align\s+\d+\s+\.b8\s+(\w+)\[(\d+)\]\s*\)[^{]*\{"
    for match in re.finditer(entry, text):
        kernel = Kernel(match[1], match[2], int(match[3]))
        for statement in statements(text[match.end() : closing_brace(text, match.end())]):
            add_statement(kernel, statement, files)
        kernels[kernel.name] = kernel
    if len(kernels) != text.count(".entry"):
        raise ValueError("a kernel does not have exactly one structure as its parameter")
    return kernels, shared[1] if shared else None


def closing_brace(text, start):
    """Where the body ends that begins at `start`, after its opening brace."""
    depth, at = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at - 1


def statements(body):
    """Statements without their semicolons; labels with their colons; braces of scopes are dropped."""
    body = re.sub(r"([$\w]+):(?=\s)", r"\1:;", body)
    body = re.sub(r"^(\s*\.loc\s[^\n]*)", r"\1;", body, flags=re.MULTILINE)
    for statement in body.split(";"):
        # A brace that opens a scope stands before the statement, one that closes it after the last one.
        plain = re.sub(r"^[\s{}]+", "", statement).strip()
        if plain:
            yield plain


def add_statement(kernel, statement, files):
    if statement.endswith(":"):
        kernel.labels[statement[:-1]] = len(kernel.code)
    elif statement.startswith(".reg"):
        _, kind, names = statement.split(None, 2)
        for name in names.split(","):
            numbered = re.match(r"(%\w+)<(\d+)>", name.strip())
            every = [f"{numbered[1]}{i}" for i in range(int(numbered[2]))] if numbered else [name.strip()]
            kernel.registers |= dict.fromkeys(every, kind[1:])
    elif statement.startswith(".loc"):
        numbers = re.findall(r"\b\d+\b", re.sub(r"function_name\s+\S+", "", statement))
        outer = kernel.places.get(tuple(numbers[3:6]), ())
        kernel.place = ((files.get(numbers[0], ""), int(numbers[1])), *outer)
        kernel.places[tuple(numbers[:3])] = kernel.place
    elif not statement.startswith((".pragma", ".file")):
        match = re.match(r"(?:@(!?)(%\w+)\s+)?(\S+)\s*(.*)", statement, re.S)
        words = tuple(match[3].split("."))
        kernel.code.append(
            Instruction(words, split_operands(match[4]), match[2], match[1] == "!", kernel.place)
        )


def split_operands(text):
    """At the commas outside braces."""
    return tuple(part.strip() for part in re.split(r",\s*(?![^{]*\})", text) if part.strip())
