//! CBOR of an introduction that several packets share.

use std::sync::Arc;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::Introduction;

pub fn encode<Ctx, W: Write>(
    value: &Option<Arc<Introduction>>,
    e: &mut Encoder<W>,
    ctx: &mut Ctx,
) -> Result<(), EncodeError<W::Error>> {
    match value {
        Some(intro) => Introduction::encode(intro, e, ctx),
        None => e.null()?.ok(),
    }
}

pub fn decode<'b, Ctx>(d: &mut Decoder<'b>, ctx: &mut Ctx) -> Result<Option<Arc<Introduction>>, DecodeError> {
    Ok(Option::<Introduction>::decode(d, ctx)?.map(Arc::new))
}

#[allow(clippy::unnecessary_wraps, clippy::option_option, reason = "the derive macro asks for this shape")]
pub fn nil() -> Option<Option<Arc<Introduction>>> {
    Some(None)
}

#[allow(clippy::ref_option, reason = "the derive macro asks for this shape")]
pub fn is_nil(value: &Option<Arc<Introduction>>) -> bool {
    value.is_none()
}
