//! A connection whose other side has to take what it is sent. Otherwise whoever asks for something large and reads it byte by byte holds
//! one of the site's places for as long as a connection may last.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a write may wait in one go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who reads more slowly than this all the time is given up, bytes per second. A modem of 56 kbit/s reads 7,000.
const SLOWEST: u32 = 2_048;

/// A stream that fails when its reader is too slow.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    /// It is for others by now to see to slow readers.
    is_free: Pace,
    /// How long writes may still wait; each byte that is taken adds a little, up to [`PATIENCE`].
    left: Duration,
    /// Since when a write waits, and when that has lasted too long.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// Lets the reader of a [`Paced`] stream take its time from now on: of one that is a WebSocket by then.
#[derive(Clone, Debug, Default)]
pub struct Pace(Arc<AtomicBool>);

impl Pace {
    /// From now on nobody is given up.
    pub fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<S> Paced<S> {
    /// A stream whose reader has to keep up.
    pub fn new(stream: S) -> Self {
        Self { stream, is_free: Pace::default(), left: PATIENCE, waiting: None }
    }

    /// What ends that.
    pub fn pace(&self) -> Pace {
        self.is_free.clone()
    }
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    fn poll_paced(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), cx) {
            if let Some((since, _)) = self.waiting.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            let taken = u32::try_from(*written.as_ref().unwrap_or(&0)).unwrap_or(u32::MAX);
            let earned = Duration::from_secs(1).saturating_mul(taken) / SLOWEST;
            self.left = self.left.saturating_add(earned).min(PATIENCE);
            return Poll::Ready(written);
        }
        if self.is_free.0.load(Ordering::Relaxed) {
            self.waiting = None;
            return Poll::Pending;
        }
        let left = self.left;
        let (_, too_long) =
            self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        ready!(too_long.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the other side takes too little of the answer",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_paced(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_paced(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Of a stream with TLS it is this that waits: it takes more than the other side has.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = |stream: Pin<&mut S>, cx: &mut Context<'_>| stream.poll_flush(cx).map_ok(|()| 0);
        self.get_mut().poll_paced(cx, flush).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = |stream: Pin<&mut S>, cx: &mut Context<'_>| stream.poll_shutdown(cx).map_ok(|()| 0);
        self.get_mut().poll_paced(cx, shutdown).map_ok(drop)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// How long a writer lasts whose reader takes so many bytes every second; `None`: until everything is written.
    async fn lasts(bytes_per_second: usize) -> Option<Duration> {
        let (ours, theirs) = duplex(1_024);
        lasts_with(bytes_per_second, Paced::new(ours), theirs).await
    }

    async fn lasts_with(
        bytes_per_second: usize,
        mut paced: Paced<DuplexStream>,
        mut theirs: DuplexStream,
    ) -> Option<Duration> {
        let reader = tokio::spawn(async move {
            let mut taken = vec![0; bytes_per_second];
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if bytes_per_second > 0 && theirs.read_exact(&mut taken).await.is_err() {
                    return;
                }
            }
        });
        let started = Instant::now();
        let outcome = paced.write_all(&[0; 256 * 1_024]).await;
        reader.abort();
        outcome.is_err().then(|| started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_too_slowly_is_given_up_and_who_reads_at_all_fast_is_not() {
        assert_eq!(lasts(0).await.map(|time| time.as_secs()), Some(10));
        let dripping = lasts(16).await.expect("given up");
        assert!(dripping < Duration::from_secs(12), "{dripping:?}");
        assert_eq!(lasts(4_096).await, None);
        let (ours, theirs) = duplex(1_024);
        let paced = Paced::new(ours);
        paced.pace().end();
        assert_eq!(lasts_with(1_024, paced, theirs).await, None, "a WebSocket has limits of its own");
    }
}
