//! What goes over a stream: any bytes, to the end, half, or without end.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

use super::wire::{KAD, KadMessage};

/// Most bytes read of one message.
const MAX_READ: u64 = 1 << 20;

/// Bytes for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// These, and the end.
    Whole(Vec<u8>),
    /// These, and then nothing, for as long as the other end bears it.
    Half(Vec<u8>),
    /// These over and over, for as long as the other end takes them.
    Endless(Vec<u8>),
}

impl Outgoing {
    async fn write<T: AsyncWrite + Unpin + Send>(self, io: &mut T) -> io::Result<()> {
        match self {
            Self::Whole(bytes) => io.write_all(&bytes).await,
            Self::Half(bytes) => {
                io.write_all(&bytes).await?;
                io.flush().await?;
                std::future::pending().await
            }
            Self::Endless(bytes) => loop {
                io.write_all(&bytes).await?;
                io.flush().await?;
            },
        }
    }
}

/// Reads and writes without a look at the contents.
#[derive(Clone, Debug, Default)]
pub struct Raw;

/// Reads up to the end, or on Kademlia streams, which stay open, up to the end of a message.
async fn read<T>(protocol: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
where
    T: AsyncRead + Unpin + Send,
{
    let mut bytes = Vec::new();
    if protocol.as_ref() != KAD {
        io.take(MAX_READ).read_to_end(&mut bytes).await?;
        return Ok(bytes);
    }
    let mut chunk = [0; 4096];
    while !KadMessage::is_whole(&bytes) && bytes.len() < MAX_READ as usize {
        let read = io.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
    Ok(bytes)
}

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Outgoing;
    type Response = Outgoing;

    async fn read_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Outgoing>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(protocol, io).await.map(Outgoing::Whole)
    }

    async fn read_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Outgoing>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(protocol, io).await.map(Outgoing::Whole)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Outgoing) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        bytes.write(io).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Outgoing) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        bytes.write(io).await
    }
}
