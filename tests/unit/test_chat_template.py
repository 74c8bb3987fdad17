"""Chat templates are judged by what they reach for, and never run; ordinary ones pass."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from safeload.formats import chat_template
from safeload.formats.chat_template import internals_named, judge_template
from tests.effort import within

# CVE-2024-34359 (GHSA-56xg-wfcc-g829): a template out of a GGUF file, rendered without a sandbox.
PUBLISHED = (
    "{% for x in ().__class__.__base__.__subclasses__() %}{% if 'warning' in x.__name__ %}"
    "{{ x()._module.__builtins__['__import__']('os').popen('true') }}{% endif %}{% endfor %}"
)


def rules(template: str) -> set[str]:
    found, problem = judge_template(template)
    assert problem is None
    return {item.rule for item in found}


@pytest.mark.parametrize(
    "template",
    [
        PUBLISHED,
        "{{ messages.__class__ }}",
        "{{ messages['__class__'] }}",
        "{{ messages['__cla' 'ss__'] }}",
        "{{ messages['__cla' ~ 'ss__'] }}",
        "{{ messages['__cla' + 'ss__'] }}",
        "{{ messages[('__cla', 'ss__')|join] }}",
        "{{ messages['__CLASS__'|lower] }}",
        "{{ messages['__ssalc__'|reverse] }}",
        "{{ messages['__ssalc__'[::-1]] }}",
        "{{ messages['xxclassxx'|replace('xx', '__')] }}",
        "{{ messages['_' * 2 ~ 'class' ~ '_' * 2] }}",
        r"{{ messages['\x5f\x5fclass\x5f\x5f'] }}",
        "{{ messages|attr('__class__') }}",
        "{{ messages|attr('\\u005f_class__') }}",
        "{{ messages|map(attribute='__class__')|list }}",
        "{{ messages|map(attribute='role.__class__')|list }}",
        "{{ messages|map('attr', '__class__')|list }}",
        "{{ messages|groupby('__class__') }}",
        "{{ messages|selectattr('__class__') }}",
        "{{ messages|sort(attribute='__class__') }}",
        "{% set name = '__globals__' %}{{ messages[name] }}",
        "{% set name %}__globals__{% endset %}{{ messages[name] }}",
        "{{ '{0.__class__.__init__}'.format(messages) }}",
        "{{ ('{0.__cla' ~ 'ss__}').format(messages) }}",
        "{{ x ~ ('{0.__cla' + 'ss__}').format(messages) }}",
        "{{ ('{0.xxclassxx}'|replace('x', '_')).format(messages) }}",
        "{% set f = '{0.__cla' ~ 'ss__}' %}{{ f.format(messages) }}",
        "{{ messages.append.func_globals }}",
        "{{ generator.gi_frame.f_back }}",
        "{{ messages.mro() }}",
        "{{ os.system('true') }}",
        "{{ eval('1') }}",
        "{{ open('/etc/passwd') }}",
        "{% if messages.__class__ %}{% endif %}",
        "{% for x in messages.__dict__ %}{% endfor %}",
        "{% macro m(x) %}{{ x.__class__ }}{% endmacro %}",
        "{% generation %}{{ x.__class__ }}{% endgeneration %}",
        "{% do x.__setattr__('a', 1) %}",
        "{{ x }}{{ {'a': [(x.__class__,)]} }}",
    ],
)
def test_a_way_to_pythons_objects_is_named(template: str) -> None:
    """Every spelling of a name that can be read off the template is the same name."""
    assert "SL703" in rules(template)


def test_a_format_that_was_put_together_is_said_to_be() -> None:
    assert rules("{{ ('{0.' ~ x ~ '}').format(messages) }}") == {"SL705"}


@pytest.mark.parametrize("statement", ["include 'a'", "import 'a' as b", "from 'a' import b", "extends 'a'", "include ['a', 'b']"])
def test_loading_another_file_is_named(statement: str) -> None:
    assert rules(f"{{% {statement} %}}") == {"SL704"}


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages['%c%c'|format(95, 95)] }}",
        "{{ messages[''.join(parts)] }}",
        "{% set key = a ~ b %}{{ messages[key] }}",
        "{% set ns = namespace(k='') %}{% for c in x %}{% set ns.k = ns.k ~ c %}{% endfor %}{{ messages[ns.k] }}",
        "{% set a = x|join %}{% set b = a %}{{ messages[b] }}",
        "{{ messages|attr(name) }}",
        "{{ messages|attr(request.args.x) }}",
        "{{ messages._private }}",
        "{{ self._TemplateReference__context }}",
        "{{ messages[dict(a=1, b=2)|join] }}",
    ],
)
def test_a_name_that_is_computed_is_not_let_pass(template: str) -> None:
    """What cannot be told is a warning, and refused."""
    assert rules(template) == {"SL705"}


@pytest.mark.parametrize("template", ["{{ 'a' * 1000000000 }}", "{% for i in range(10000000) %}{% endfor %}", "{{ 9 ** 9 ** 9 }}"])
def test_more_work_than_a_conversation_needs_is_named(template: str) -> None:
    assert rules(template) == {"SL706"}


@pytest.mark.parametrize(
    "template",
    ["{% debug %}", "{{", "{% for %}", "{{ " + "(" * 5000, "{{ 1" + "0" * 5000 + " }}", "{% if a %}", "{{ x }}" * 20_000, "{{ \0 }}"],
)
def test_what_jinja_does_not_parse_is_not_let_pass(template: str) -> None:
    """Another program may know other tags, and run it."""
    assert rules(template) == {"SL707"}


def test_a_template_that_breaks_still_says_what_it_is_after() -> None:
    """The payload comes first, the error after it."""
    assert rules("{{ x.__class__ }}{% unknown %}") == {"SL703", "SL707"}


ORDINARY = [
    "",
    "You are a helpful assistant.",
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}",
    (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
        "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content | trim }}{% endfor %}"
    ),
    (
        "{%- set ns = namespace(system='', found=false) -%}{%- for m in messages if m['role'] == 'system' -%}"
        "{%- set ns.system = ns.system ~ m['content'] -%}{%- set ns.found = true -%}{%- endfor -%}{{ ns.system }}"
    ),
    (
        "{%- macro render(tool) -%}{{ tool.function.name }}({{ tool.function.parameters | tojson(indent=4) }}){%- endmacro -%}"
        "{%- for tool in tools -%}{{ render(tool) }}{%- endfor -%}"
    ),
    "{% set last = messages[messages|length - 1] %}{{ last['tool_calls'][0]['function']['arguments'] | tojson }}",
    "{% for key, value in message.items() %}{{ key }}: {{ message[key] }}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    "{% generation %}{{ message['content'].split('</think>')[-1].lstrip('\\n') }}{% endgeneration %}",
    "{{ strftime_now('%d %b %Y') }}{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('\\n') }}",
    "{% if messages[0]['content'] is string and '__init__.py' in messages[0]['content'] %}{% endif %}# __init__ of a class",
    "{{ messages['a' if x else 'b'] }}{{ messages[loop.index0 + 1] }}{{ messages[2 * i:][0] }}",
]


@pytest.mark.parametrize("template", ORDINARY)
def test_ordinary_templates_pass(template: str) -> None:
    """In the manner of published ones; a scanner that warns of each is turned off."""
    if "'__init__.py'" in template:  # the one that could be mistaken: the name stands in a text of an expression
        assert rules(template) <= {"SL703"}
    else:
        assert judge_template(template) == ([], None)


def test_without_jinja_a_template_is_not_judged_and_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is plain to see is found all the same."""
    real = builtins.__import__

    def absent(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "jinja2":
            raise ModuleNotFoundError(name)
        return real(name, *args, **options)

    chat_template._environment.cache_clear()
    monkeypatch.setattr(builtins, "__import__", absent)
    try:
        found, problem = judge_template("{{ messages }}")
        assert (found, problem) == ([], "the chat template was not analysed: install safeload[jinja]")
        found, problem = judge_template(PUBLISHED)
        assert {item.rule for item in found} == {"SL703"}
        assert problem is None
        assert judge_template("plain text") == ([], None)
    finally:
        monkeypatch.undo()
        chat_template._environment.cache_clear()


def test_text_that_nobody_renders_is_searched_for_internals_alone() -> None:
    assert internals_named("see {{ x }} and {% y %}, __class__") == []
    assert [item.rule for item in internals_named("{{ x.__class__ }}")] == ["SL703"]


@pytest.mark.parametrize(
    "template",
    ["{{ a" + ".b" * 60_000 + " }}", "{{ x[" + "~".join("abcd" * 15_000) + "] }}", "{{ x['a'|replace('a','b')] }}" * 4_000, "{{" * 60_000],
    ids=["attributes", "pieces", "filters", "braces"],
)
def test_a_hostile_template_costs_seconds_at_most(template: str) -> None:
    """Not a measurement: what is looked for is a cost that grows faster than the text."""
    with within(60):
        judge_template(template)
