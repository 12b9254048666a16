//! Every answer that a test gets is held against the description of the API: what it tells of nothing else may be answered.

use std::sync::LazyLock;

use offhook_bootstrap::web::OPENAPI;
use serde_json::Value;

/// The description, with all fields: in a test even one that clients would have to ignore is a mistake.
pub static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    let mut description = serde_json::from_str(OPENAPI).expect("JSON");
    close(&mut description);
    description
});

fn close(part: &mut Value) {
    if part["type"] == "object" && part.get("properties").is_some() {
        let object = part.as_object_mut().expect("one with a type");
        object.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    match part {
        Value::Object(parts) => parts.values_mut().for_each(close),
        Value::Array(parts) => parts.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fails unless the description tells of this answer. `path` begins after `/api/v1`.
pub fn check(method: &str, path: &str, status: u16, body: &Value) {
    let asked = format!("{method} {path}: {status} {body}");
    let path = path.split('?').next().unwrap_or_default();
    let paths = DESCRIPTION["paths"].as_object().expect("paths");
    let Some(described) = paths.keys().find(|described| is_same(described, path)) else {
        // The pace of a network is kept wherever it asks.
        assert!(matches!(status, 404 | 429), "{asked}: it is not described");
        return;
    };
    let Some(operation) = paths[described].get(method.to_lowercase()) else {
        assert_eq!(status, 405, "{asked}: the method is not described");
        return;
    };
    let answer = &operation["responses"][status.to_string()];
    assert!(!answer.is_null(), "{asked}: the status is not described");
    let answer = match answer["$ref"].as_str() {
        Some(reference) => DESCRIPTION.pointer(&reference[1..]).expect("what is referred to"),
        None => answer,
    };
    let Some(content) = answer.get("content") else {
        assert!(body.is_null(), "{asked}: a body is not described");
        return;
    };
    let mut schema = content["application/json"]["schema"].clone();
    schema["components"] = DESCRIPTION["components"].clone();
    let validator = jsonschema::draft202012::new(&schema).expect("schemas");
    let wrong: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{asked}: {wrong:?}");
}

/// Whether a path is one of those that are described like this, such as `/numbers/{number}`.
fn is_same(described: &str, path: &str) -> bool {
    let (mut described, mut path) = (described.split('/'), path.split('/'));
    loop {
        match (described.next(), path.next()) {
            (None, None) => return true,
            (Some(any), Some(part)) if any.starts_with('{') && !part.is_empty() => {}
            (Some(same), Some(part)) if same == part => {}
            (_, _) => return false,
        }
    }
}
