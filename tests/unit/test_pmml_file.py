"""PMML: no document type is read, nothing outside is fetched, and what the standard leaves open is told."""

from __future__ import annotations

import pytest

import safeload
from safeload.findings import Level, Outcome, Report
from tests.forge_boosting import pmml

DEFINED = '<TransformationDictionary><DefineFunction name="my"><ParameterField name="x"/></DefineFunction></TransformationDictionary>'


def scanned(data: bytes) -> Report:
    report = safeload.scan(data, policy={}, lock=False)
    assert report.format == "pmml"
    return report


def rules(data: bytes) -> dict[str, Level]:
    return {found.rule: found.level for found in scanned(data).findings if found.level is not Level.NOTE}


def apply(function: str) -> str:
    return f'<DerivedField name="d"><Apply function="{function}"><FieldRef field="a"/></Apply></DerivedField>'


BENIGN = {
    "a model": pmml(),
    "no declaration": pmml(before=""),
    "a comment": pmml(before="<!-- made by <x> -->"),
    "an older version": pmml(space="http://www.dmg.org/PMML-3_2"),
    "no namespace": pmml().replace(b' xmlns="http://www.dmg.org/PMML-4_4"', b""),
    "latin-1": pmml(before='<?xml version="1.0" encoding="ISO-8859-1"?>') .replace(b'name="x"', b'name="\xe9"'),
    "windows-1252": pmml(before='<?xml version="1.0" encoding="windows-1252"?>').replace(b'name="x"', b'name="\x80"'),
    "UTF-16": pmml(before='<?xml version="1.0" encoding="UTF-16"?>').decode().encode("utf-16"),
    "UTF-16 without a mark": pmml(before='<?xml version="1.0" encoding="UTF-16LE"?>').decode().encode("utf-16-le"),
    "a byte order mark": b"\xef\xbb\xbf" + pmml(),
    "a function of the standard": pmml(apply("log10")),
    "a function of its own": pmml(DEFINED + apply("my")),
    "a function that is defined later": pmml(apply("my") + DEFINED),
    "an extension": pmml('<Extension name="x" value="1" extender="me"><x:y xmlns:x="urn:x">some words</x:y></Extension>'),
    "a prefix": b'<p:PMML xmlns:p="http://www.dmg.org/PMML-4_4" version="4.4"><p:Header/></p:PMML>',
    "categories": pmml('<DataField name="c"><Value value="select * from x"/><Value value="imported goods"/></DataField>'),
    "where its schema is": pmml().replace(
        b"<PMML ", b'<PMML xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://www.dmg.org/PMML-4_4 x.xsd" '
    ),
    "many numbers": pmml("<Array n='90000' type='int'>" + "1 " * 90_000 + "</Array>"),
}  # fmt: skip


@pytest.mark.parametrize("data", BENIGN.values(), ids=BENIGN)
def test_ordinary_documents_are_allowed(data: bytes) -> None:
    report = scanned(data)
    assert report.decision.outcome is Outcome.ALLOWED, report.decision.reasons
    assert report.findings == ()


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(10))
OUTSIDE = {
    "a file": pmml("&x;", before='<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    "an address": pmml("&x;", before='<!DOCTYPE PMML [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]>'),
    "a parameter entity": pmml(before='<!DOCTYPE PMML [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>'),
    "an external subset": pmml(before='<!DOCTYPE PMML SYSTEM "http://127.0.0.1:9/x.dtd">'),
    "a public subset": pmml(before='<!DOCTYPE PMML PUBLIC "-//X//Y" "http://127.0.0.1:9/x.dtd">'),
    "a billion laughs": pmml("&l9;", before=f"<!DOCTYPE PMML [{LAUGHS}]>"),
    "one entity": pmml("&x;", before='<!DOCTYPE PMML [<!ENTITY x "y">]>'),
    "an attribute's default": pmml(before='<!DOCTYPE PMML [<!ATTLIST PMML version CDATA "9">]>'),
    "a subset in UTF-16": pmml(before='<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]>').decode().encode("utf-16"),
    "another document": pmml('<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'),
    "a stylesheet": pmml(before='<?xml-stylesheet type="text/xsl" href="http://127.0.0.1:9/x.xsl"?>'),
    "a stylesheet within": pmml('<Extension><s:stylesheet xmlns:s="http://www.w3.org/1999/XSL/Transform"/></Extension>'),
}


@pytest.mark.parametrize("data", OUTSIDE.values(), ids=OUTSIDE)
def test_what_reaches_out_or_grows_is_an_error(data: bytes) -> None:
    """Nothing of it is expanded or fetched to find out."""
    assert rules(data)["SL853"] is Level.ERROR


ASKS = {
    "an unknown function": (pmml(apply("com.example.Score")), "SL854", Level.WARNING),
    "a Java class that runs": (pmml(apply("java.lang.Runtime")), "SL854", Level.ERROR),
    "a table elsewhere": (pmml("<TableLocator><Extension name='url' value='x'/></TableLocator>"), "SL854", Level.WARNING),
    "a script": (pmml("<Extension><h:script xmlns:h='http://www.w3.org/1999/xhtml'>x</h:script></Extension>"), "SL854", Level.WARNING),
    "another instruction": (pmml("<?php x?>"), "SL854", Level.WARNING),
    "a link": (pmml("<Extension xmlns:l='http://www.w3.org/1999/xlink' l:href='http://x'/>"), "SL853", Level.WARNING),
    "code in an extension": (pmml("<Extension>Runtime.getRuntime().exec('x')</Extension>"), "SL852", Level.WARNING),
    "code in a value": (pmml("<Extension name='x' value='__import__(&quot;os&quot;)'/>"), "SL852", Level.WARNING),
    "code in CDATA": (pmml("<Extension><![CDATA[<b>]]>os.<!-- x -->system('true')</Extension>"), "SL852", Level.WARNING),
    "a lookup": (pmml("<Extension>${jndi:ldap://127.0.0.1/x}</Extension>"), "SL852", Level.WARNING),
    "a bare document type": (pmml(before="<!DOCTYPE PMML>"), "SL855", Level.WARNING),
    "another root": (b'<!--<!ENTITY x "y">--><x>' + pmml(before="") + b"</x>", "SL855", Level.WARNING),
    "another namespace": (pmml(space="urn:x"), "SL855", Level.WARNING),
    "another encoding": (pmml(before='<?xml version="1.0" encoding="rot13"?>'), "SL855", Level.WARNING),
    "not well-formed": (pmml()[:-10], "SL855", Level.WARNING),
    "an unknown entity": (pmml("&nbsp;"), "SL855", Level.WARNING),
    "bytes behind": (pmml() + b"more", "SL855", Level.WARNING),
    "nested without end": (pmml("<Node>" * 100_000), "SL855", Level.WARNING),
    "an unbound prefix": (pmml("<x:y/>"), "SL855", Level.WARNING),
}


@pytest.mark.parametrize(("data", "rule", "level"), ASKS.values(), ids=ASKS)
def test_what_the_standard_does_not_define_is_told(data: bytes, rule: str, level: Level) -> None:
    found = rules(data)
    assert found[rule] is level
    assert scanned(data).decision.outcome is not Outcome.ALLOWED


def test_many_equal_findings_are_bounded() -> None:
    """A million elements make no million findings."""
    assert len(scanned(pmml(apply("com.example.Score") * 2_000)).findings) == 1
    assert len(scanned(pmml("<Extension>eval(x)</Extension>" * 2_000)).findings) <= 102


def test_other_xml_is_no_model() -> None:
    for data in (b"<?xml version='1.0'?><html/>", b"<svg/>", b"text about <PMML> documents", b"<html><pre><PMML></pre></html>"):
        assert safeload.scan(data, policy={}, lock=False).format == "unknown"
