"""Renders hostile templates and reads hostile YAML, in a process whose memory is limited.

Run as a module with the name of a surface; prints a line of JSON for each attack as it ends.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sentinel.channels.contract import ChannelContext, SettingFault
from sentinel.channels.template import Template
from sentinel.config.document import Document
from sentinel.core.errors import SentinelError
from sentinel.dbt.files import load_yaml, read_project
from sentinel.dbt.options import DbtOptions
from sentinel.dbt.profile import read_profile
from sentinel.dbt.rendering import Renderer
from tests.fakes import message
from tests.peak import peak_bytes

MEMORY = 1_500_000_000
DOUBLED = (
    "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}"
    "{{ %s }}"
)
DEEP = 3_000

# One line each, so that they fit into YAML in quotes; none holds a double quote.
TEMPLATES: Mapping[str, str] = {
    "text times number": "{{ 'a' * 3000000000 }}",
    "number times text": "{{ 3000000000 * 'a' }}",
    "list times number": "{{ [0] * 3000000000 }}",
    "tuple times number": "{{ (0,) * 3000000000 }}",
    "percent filter": "{{ '%999999999d'|format(1) }}",
    "percent operator": "{{ '%999999999d' % 1 }}",
    "percent with precision": "{{ '%.999999999f' % 1.5 }}",
    "percent with a star": "{{ '%*d' % (999999999, 1) }}",
    "percent with a key": "{{ '%(a(b))999999999d' % {'a(b)': 1} }}",
    "percent many times": "{{ ('%(a)s' * 40000) % {'a': 'b' * 200000} }}",
    "format": "{{ '{:>999999999}'.format(1) }}",
    "format with a computed width": "{{ '{:{}}'.format(1, 999999999) }}",
    "format_map": "{{ '{a:>999999999}'.format_map({'a': 1}) }}",
    "format many times": "{{ ('{0}' * 40000).format('b' * 200000) }}",
    "six powers": "{{ (((((9**100)**100)**100)**100)**100)**100 }}",
    "a power": "{{ 9**(9**9) }}",
    "a shift by multiplication": DOUBLED % ("7", "ns.x * ns.x", "ns.x"),
    "a long range": "{{ range(10**9)|list }}",
    "center": "{{ 'a'|center(10**9) }}",
    "center method": "{{ 'a'.center(10**9) }}",
    "center by attr": "{{ ('a'|attr('center'))(10**9) }}",
    "center by map": "{{ ['a']|map('center', 10**9)|list }}",
    "center as a filter block": "{% filter center(10**9) %}a{% endfilter %}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "expandtabs": "{{ 'a\t'.expandtabs(10**9) }}",
    "translate": "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
    "to_bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "indent": "{{ 'a'|indent(10**9, true) }}",
    "indent of lines": "{{ ('a\n' * 90000)|indent(90000) }}",
    "replace": "{{ ('a' * 90000)|replace('a', 'b' * 90000) }}",
    "replace of nothing": "{{ ('a' * 90000)|replace('', 'b' * 90000) }}",
    "replace method": "{{ ('a' * 90000).replace('a', 'b' * 90000) }}",
    "join": "{{ range(90000)|join('b' * 90000) }}",
    "join method": "{{ ('b' * 90000).join('a' * 90000) }}",
    "join in a loop": DOUBLED % ("'aaaaaaaa'", "[ns.x, ns.x]|join", "ns.x|length"),
    "tilde in a loop": DOUBLED % ("'aaaaaaaa'", "ns.x ~ ns.x", "ns.x|length"),
    "plus in a loop": DOUBLED % ("'aaaaaaaa'", "ns.x + ns.x", "ns.x|length"),
    "shared lists": DOUBLED % ("[1]", "[ns.x, ns.x]", "ns.x"),
    "shared tuples": DOUBLED % ("(1,)", "(ns.x, ns.x)", "{ns.x: 1}"),
    "shared mappings": DOUBLED % ("[1]", "{'a': ns.x, 'b': ns.x}", "ns.x|tojson"),
    "shared by dict": DOUBLED % ("[1]", "dict(a=ns.x, b=ns.x)", "ns.x|string"),
    "set blocks": "".join(
        f"{{% set x{n + 1} %}}{{{{ x{n} }}}}{{{{ x{n} }}}}{{% endset %}}" for n in range(40)
    ).join(("{% set x0 = 'aaaaaaaa' %}", "{{ x40|length }}")),
    "macros that double": "".join(
        f"{{% macro m{n + 1}() %}}{{{{ m{n}() }}}}{{{{ m{n}() }}}}{{% endmacro %}}"
        for n in range(40)
    ).join(("{% macro m0() %}a{% endmacro %}", "{{ m40()|length }}")),
    "a macro that calls itself": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "a macro that calls itself twice": (
        "{% macro a(n) %}{{ a(n - 1) ~ a(n - 1) if n }}{% endmacro %}{{ a(60) }}"
    ),
    "nested loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "much text in a loop": "{% for a in range(99999) %}" + "a" * 50_000 + "{% endfor %}",
    "comparisons": (
        "{% set a = range(30000)|list %}{% for b in range(90000) %}{{ 'x' in a }}{% endfor %}"
    ),
    "tests of lists": "{% set a = range(30000)|list %}{{ a|select('in', a)|list }}",
    "slices": "{% set a = 'a' * 240000 %}{% for b in range(90000) %}{{ a[::-1][:1] }}{% endfor %}",
    "comparisons with a range": (
        "{% for b in range(90000) %}{{ 1.5 in range(99999) }}{% endfor %}"
    ),
    "comparisons with a view": (
        "{% set a = dict(range(60000)|batch(2)) %}"
        "{% for b in range(90000) %}{{ 'x' in a.values() }}{% endfor %}"
    ),
    "shared namespaces": DOUBLED % ("1", "namespace(a=ns.x, b=ns.x)", "ns.x"),
    "shared views": DOUBLED % ("{}", "{'a': ns.x.items(), 'b': ns.x.values()}", "ns.x"),
    "a method by its class": "{{ dict.update({}, {'a': 1}) }}",
    "a nest of tuples": (
        "{% set ns = namespace(x=(1,)) %}{% for i in range(90000) %}{% set ns.x = (ns.x,) %}"
        "{% endfor %}{{ {ns.x: 1} }}"
    ),
    "json with much space": "{{ [1]|tojson(indent=10**9) }}",
    "a wrap": "{{ ('a b ' * 9000)|wordwrap(1, wrapstring='x' * 90000) }}",
    "batch": "{{ 'a'|batch(10**9, 'x')|list }}",
    "slice": "{{ 'a'|slice(10**9)|list }}",
    "round": "{{ 1.5|round(10**9, 'ceil') }}",
    "sum of lists": "{{ [[1, 2], [3]]|sum(start=[]) }}",
    "striptags": "{{ ('<!--' * 60000)|striptags }}",
    "lorem ipsum": "{{ lipsum(99999) }}",
    "parentheses": "{{ " + "(" * DEEP + ")" * DEEP + " }}",
    "brackets": "{{ " + "[" * DEEP + "]" * DEEP + " }}",
    "braces": "{{ " + "{1: " * DEEP + "1" + "}" * DEEP + " }}",
    "negations": "{{ " + "not " * DEEP + "1 }}",
    "signs": "{{ " + "-" * DEEP + "1 }}",
    "attributes": "{{ ''" + ".b" * DEEP + " }}",
    "subscripts": "{{ ''" + "[0]" * DEEP + " }}",
    "a long sum": "{{ 1" + "+1" * DEEP + " }}",
    "many filters": "{{ 1" + "|abs" * DEEP + " }}",
    "conditions": "{{ " + "1 if 1 else " * DEEP + "1 }}",
    "nested blocks": "{% if 1 %}" * DEEP + "{% endif %}" * DEEP,
    "many nested loops": "{% for a in 'b' %}" * 30 + "{% endfor %}" * 30,
    "a long number": "{{ " + "9" * 5_000 + " }}",
    "a long hexadecimal number": "{{ 0x" + "f" * 90_000 + " * 2 }}",
    "a long template": "{{ 1 }}" + "a" * 199_000,
    "the counter": "{{ sentinel_work }}",
    "another counter": "{% set sentinel_work = namespace(step=dict) %}{{ 1 }}",
}

ALIASES = "\n".join(f"x{n + 1}: &x{n + 1} [{', '.join([f'*x{n}'] * 10)}]" for n in range(9))
DOCUMENTS: Mapping[str, str] = {
    "aliases that multiply": f"x0: &x0 [1, 1]\n{ALIASES}\n",
    "aliases of a long text": f'x0: &x0 "{"a" * 90_000}"\nx1: [{", ".join(["*x0"] * 9_000)}]\n',
    "merges that multiply": "x0: &x0 {a: 1}\n"
    + "\n".join(f"x{n + 1}: &x{n + 1} {{<<: [*x{n}, *x{n}, *x{n}], k{n}: 1}}" for n in range(25))
    + "\n",
    "an alias in its anchor": "x: &x [*x]\n",
    "an alias deep in its anchor": "x: &x\n  a:\n    - b: *x\n",
    "deep brackets": "x: " + "[" * 5_000 + "]" * 5_000 + "\n",
    "deep braces": "x: " + "{a: " * 5_000 + "}" * 5_000 + "\n",
    "deep dashes": "x:\n  " + "- " * 5_000 + "\n",
    "deep keys": "? " * 5_000 + "\n",
    "deep blocks": "\n".join(" " * n + "a:" for n in range(300)) + "\n",
}


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") + '"'


def sentinel_yml(folder: Path, text: str) -> object:
    (folder / "sentinel.yml").write_text(f"\ntimezone: {quoted(text)}\n")
    return Document.read(folder / "sentinel.yml", "sentinel.yml").render("timezone")


def channel_template(folder: Path, text: str) -> object:
    (folder / "t.txt").write_text(f"\n{text}\n")
    template = Template.load("template", "t.txt", ChannelContext(folder, print), str)
    return template.render(message())


def dbt_project(folder: Path, text: str) -> object:
    (folder / "dbt_project.yml").write_text(f"name: a\ntarget-path: {quoted(text)}\n")
    return read_project(folder, lambda _: Renderer({}, {}))


def profiles(folder: Path, text: str) -> object:
    (folder / "profiles.yml").write_text(
        f"a:\n  target: b\n  outputs:\n    b:\n      type: duckdb\n      path: {quoted(text)}\n"
    )
    options = DbtOptions(project_dir=folder, profiles_dir=folder)
    return read_profile(options, "a", env={}, cwd=folder)


def yaml_of_sentinel(folder: Path, text: str) -> object:
    (folder / "sentinel.yml").write_text(text)
    document = Document.read(folder / "sentinel.yml", "sentinel.yml")
    return [document.render(key) for key in document.root]


def yaml_of_dbt(folder: Path, text: str) -> object:
    (folder / "dbt_project.yml").write_text(text)
    return load_yaml(folder / "dbt_project.yml")


# The files of dbt have the same Jinja: a few show that it is so.
FEW = {name: TEMPLATES[name] for name in list(TEMPLATES)[::6]}

Surface = Callable[[Path, str], object]
SURFACES: Mapping[str, tuple[Surface, Mapping[str, str]]] = {
    "sentinel.yml": (sentinel_yml, TEMPLATES),
    "t.txt": (channel_template, TEMPLATES),
    "dbt_project.yml": (dbt_project, FEW),
    "profiles.yml": (profiles, FEW),
    "the YAML of sentinel.yml": (yaml_of_sentinel, DOCUMENTS),
    "the YAML of dbt_project.yml": (yaml_of_dbt, DOCUMENTS),
}


def run(surface: str, folder: Path) -> Iterator[dict[str, str]]:
    attack, texts = SURFACES[surface]
    for name, text in texts.items():
        yield {"begun": name}
        try:
            shown = f"no error: {attack(folder, text)!r:.80}"
        except SettingFault as fault:
            shown = fault.message
        except SentinelError as error:
            shown = error.message
        yield {"attack": name, "error": shown}


if __name__ == "__main__":
    limit()
    for each in run(sys.argv[1], Path(sys.argv[2])):
        sys.stdout.write(json.dumps(each) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps({"memory": peak_bytes()}) + "\n")
