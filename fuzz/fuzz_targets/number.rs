//! What people type as a number, and numbers in CBOR.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offhook_proto::number::Number;
use offhook_proto::wire;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data)
        && let Ok(number) = text.parse::<Number>()
    {
        assert_eq!(Number::from_canonical(&number.canonical()).as_ref(), Ok(&number));
        assert_eq!(number.to_string().parse().as_ref(), Ok(&number));
        let bytes = wire::encode(&number);
        assert_eq!(wire::decode::<Number>(&bytes, bytes.len()), Ok(number));
    }
    if let Ok(number) = wire::decode::<Number>(data, 4096) {
        assert_eq!(Number::from_canonical(&number.canonical()), Ok(number));
    }
});
