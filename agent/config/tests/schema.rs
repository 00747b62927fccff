//! Writes packaging/agent.schema.json, with which editors complete and check agent.toml, from the table of
//! keys. It covers types and names; `astra-agent check` covers the rest.

use serde_json::{Map, Value as Json, json};

use super::super::keys::{FILE, FILES, JOBS, KEYS, Key, KeyDefault, SERVICE, SERVICES, TABLES};

const STRING: &str = "string";

/// The type of a key, from the words of the reference.
fn kind(words: &str) -> Json {
    let list = || json!({ "type": "array", "items": { "type": STRING } });
    let range = |text: &str| {
        let (least, most) = text.split_once(" to ")?;
        Some((least.parse::<u64>().ok()?, most.parse::<u64>().ok()?))
    };
    if let Some((least, most)) = range(words) {
        return json!({ "type": "integer", "minimum": least, "maximum": most });
    }
    match words {
        "true or false" => json!({ "type": "boolean" }),
        "0 or 1" => json!({ "enum": [0, 1] }),
        "port" => json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        "number above 0" => json!({ "type": "number", "exclusiveMinimum": 0 }),
        "list of strings, or list of lists of strings" => {
            json!({ "anyOf": [list(), { "type": "array", "items": list() }] })
        }
        "string or list of strings" => json!({ "anyOf": [{ "type": STRING }, list()] }),
        words if words.starts_with("list of ") => list(),
        words if words.starts_with("table of ") => json!({ "type": "object" }),
        words if words.starts_with("time") => {
            json!({ "type": STRING, "pattern": "^([0-9]+(ms|s|m|h|d))+$" })
        }
        words if words.starts_with("size") => json!({ "type": STRING, "pattern": "^[0-9]+[KMGT]?$" }),
        words if words.starts_with('`') && !words.contains("USER") => {
            json!({ "enum": words.split('`').skip(1).step_by(2).collect::<Vec<_>>() })
        }
        _ => json!({ "type": STRING }),
    }
}

/// A value in TOML syntax.
fn value(text: &str) -> Json {
    let table: toml::Table = format!("it = {text}").parse().unwrap();
    serde_json::to_value(&table["it"]).unwrap()
}

fn property(key: &Key) -> Json {
    let Json::Object(mut property) = kind(key.kind) else { unreachable!("a type is an object") };
    property.insert("description".into(), key.doc.into());
    property.insert("examples".into(), json!([value(key.example)]));
    if let KeyDefault::Value(default) = key.absent {
        property.insert("default".into(), value(default));
    }
    property.into()
}

fn table(path: &str, doc: &str) -> Json {
    let keys = super::super::keys::of(path);
    let mut properties: Map<_, _> = keys.map(|key| (key.name.to_owned(), property(key))).collect();
    for below in TABLES {
        if let Some((above, name)) = below.path.rsplit_once('.')
            && above == path
        {
            properties.insert(name.to_owned(), table(below.path, below.doc));
        }
    }
    // No key is required: the files of agent.d hold parts of a configuration.
    json!({ "type": "object", "description": doc, "additionalProperties": false, "properties": properties })
}

/// Any name is a key of [env]; its value has one of four forms.
fn env(doc: &str) -> Json {
    let source = |name: &str| {
        let key = KEYS.iter().find(|key| key.table == "env" && key.name == name).unwrap();
        let property = json!({ "type": kind(key.kind)["type"], "description": key.doc });
        json!({ "type": "object", "additionalProperties": false, "required": [name], "properties": { name: property } })
    };
    let texts = json!({ "anyOf": [{ "type": STRING }, { "type": "array", "items": { "type": STRING } }] });
    let doc_of = |name: &str| KEYS.iter().find(|key| key.table == "env" && key.name == name).unwrap().doc;
    let host = json!({
        "type": "object", "additionalProperties": false, "required": ["host"], "description": doc_of("host"),
        "properties": { "host": texts, "also": texts },
    });
    let secret = json!({
        "type": "object", "additionalProperties": false, "required": ["secret"], "description": doc_of("secret"),
        "properties": { "secret": { "type": STRING }, "key": { "type": STRING } },
    });
    let [generate, file, parameter] = ["generate", "file", "parameter"].map(source);
    let forms = json!([{ "type": STRING }, generate, file, host, secret, parameter]);
    json!({ "type": "object", "description": doc, "additionalProperties": { "anyOf": forms } })
}

fn schema() -> Json {
    let of = |section: &super::super::keys::Section| match section.path {
        "env" => env(section.doc),
        JOBS => json!({ "type": "array", "maxItems": 256, "items": table(JOBS, section.doc) }),
        path => table(path, section.doc),
    };
    let tables = TABLES.iter().filter(|section| !section.path.contains('.'));
    let mut properties: Map<_, _> = tables.map(|section| (section.path.to_owned(), of(section))).collect();
    let service = TABLES.iter().find(|section| section.path == SERVICE).unwrap();
    let services = json!({ "type": "object", "additionalProperties": table(SERVICE, service.doc) });
    properties.insert(SERVICES.to_owned(), services);
    let file = TABLES.iter().find(|section| section.path == FILE).unwrap();
    let files = json!({ "type": "object", "additionalProperties": table(FILE, file.doc) });
    properties.insert(FILES.to_owned(), files);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agent.toml of astra-agent",
        "type": "object", "additionalProperties": false, "properties": properties,
    })
}

#[test]
fn the_schema_for_editors_is_written_from_the_keys() {
    let wanted = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    super::docs::is_written("packaging/agent.schema.json", &wanted, "schema");
}

/// Whether `value` has the type `kind`: the part of JSON Schema that keys need.
fn fits(value: &Json, kind: &Json) -> bool {
    if let Some(any) = kind["anyOf"].as_array() {
        return any.iter().any(|kind| fits(value, kind));
    }
    if let Some(words) = kind["enum"].as_array() {
        return words.contains(value);
    }
    let is = |name: &Json| match name.as_str().unwrap() {
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.as_array().is_some_and(|list| list.iter().all(|item| fits(item, &kind["items"]))),
        "object" => value.is_object(),
        _ => value.is_string(),
    };
    is(&kind["type"])
}

#[test]
fn examples_and_defaults_have_the_type_of_their_key() {
    for key in KEYS.iter().filter(|key| key.table != "env") {
        let kind = kind(key.kind);
        assert!(fits(&value(key.example), &kind), "{}: {} is no {kind}", key.name, key.example);
        if let KeyDefault::Value(default) = key.absent {
            assert!(fits(&value(default), &kind), "{}: {default} is no {kind}", key.name);
        }
    }
    assert!(!fits(&json!("yes"), &kind("true or false")) && !fits(&json!([1]), &kind("list of strings")));
    assert_eq!(kind("`rolling` or `surge`"), json!({ "enum": ["rolling", "surge"] }));
}

/// The schema has every key of the valid configurations.
#[test]
fn the_schema_knows_every_key_of_the_contract() {
    let contract: toml::Table = include_str!("contract.toml").parse().unwrap();
    let schema = schema();
    for (name, content) in &contract {
        let known = &schema["properties"][name];
        let tables = content.as_array().cloned().unwrap_or_else(|| vec![content.clone()]);
        let known = if known["type"] == "array" { &known["items"] } else { known };
        for key in tables.iter().filter_map(|table| table.as_table()).flat_map(|table| table.keys()) {
            let open = known["additionalProperties"].is_object();
            assert!(open || known["properties"][key].is_object(), "[{name}] {key}");
        }
    }
}

#[test]
fn the_schema_of_a_service_has_its_own_keys_and_those_of_the_app() {
    let schema = schema();
    let service = &schema["properties"][SERVICES]["additionalProperties"]["properties"];
    for key in ["port", "command", "memory", "stop_timeout", "env", "kind", "image", "secrets"] {
        assert!(service[key].is_object(), "{key}");
    }
    assert!(service["readiness"]["properties"]["settle"].is_object());
    assert!(service["route"]["properties"]["path"].is_object() && service["engine"].is_null());
}
