//! The protocol `/offhook/signal/1` on a stream: one request, one response. The messages are in
//! [`offhook_proto::service`].

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;
use minicbor::{Decode, Encode};
pub(super) use offhook_proto::service::{
    MAX_ADDR, MAX_MESSAGE, MAX_OTHERS, MAX_SOUGHT, MAX_SOUGHT_BYTES, Refusal, Request, Response, Sought,
    SoughtSet, Want,
};
use offhook_proto::wire;

/// The protocol's name in multistream-select; the number at the end is its version.
pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/offhook/signal/1");

/// Reads and writes one message per direction of a stream.
#[derive(Clone, Copy, Default)]
pub(super) struct Codec;

async fn read<M, T>(io: &mut T) -> io::Result<M>
where
    M: for<'b> Decode<'b, ()>,
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    io.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut bytes).await?;
    wire::decode(&bytes, MAX_MESSAGE).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

async fn write<M, T>(io: &mut T, message: &M) -> io::Result<()>
where
    M: Encode<()>,
    T: AsyncWrite + Unpin + Send,
{
    let bytes = wire::encode(message);
    if bytes.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long"));
    }
    io.write_all(&bytes).await
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[test]
    fn garbage_half_and_oversized_messages_are_errors() {
        let whole = wire::encode(&Request::Find { key: [9; 32] });
        let half = &whole[..whole.len() / 2];
        let long = vec![0x5f; MAX_MESSAGE * 4];
        for bytes in [&[][..], &[0xff, 0x00, 0x13], half, &long] {
            let mut io = futures::io::Cursor::new(bytes.to_vec());
            let read: io::Result<Request> = block_on(read(&mut io));
            assert_eq!(read.err().map(|error| error.kind()), Some(io::ErrorKind::InvalidData));
        }
    }

    #[test]
    fn an_overlong_message_is_not_sent() {
        let mut io = futures::io::Cursor::new(Vec::new());
        let request = Request::Deliver { blob: vec![0; MAX_MESSAGE], origin: None };
        assert!(block_on(write(&mut io, &request)).is_err());
    }
}
