//! The description of the API, for whoever writes a client, and for the tests, which hold every answer against it.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The API under `/api/v1`, in OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("../../api/openapi.json");

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
