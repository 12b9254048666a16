//! Publishing what a directory says of itself.

use futures::stream::{FuturesUnordered, StreamExt};
use offhook_proto::descriptor::{Descriptor, SignedDescriptor};
use offhook_proto::number::RecordKey;

use super::alone::MAX_HOLDERS;
use super::{ASK_TIME, ENOUGH, PublishError, Published, READ_BACK_AFTER, hold};
use crate::clock::wall_clock;
use crate::net::client::Client;
use crate::net::codec::{Request, Response};
use crate::net::command::{Command, Holder};

/// Holds the descriptor here, puts it to the closest nodes, and reads it back.
pub(in crate::net) async fn publish(
    client: &Client,
    signed: &SignedDescriptor,
) -> Result<Published, PublishError> {
    let mine = signed.verify(wall_clock()).map_err(PublishError::Descriptor)?;
    let (key, value) = (Descriptor::key(&mine.directory), signed.to_bytes());
    match hold(client, key, value.clone()).await {
        // It is held all the same, and the others have disks of their own.
        Ok(()) | Err(PublishError::Disk) => {}
        Err(error) => return Err(error),
    }
    let mut closest = client.closest(key).await;
    closest.truncate(MAX_HOLDERS);
    let to = closest.iter().map(|holder| holder.peer).collect();
    // A stopped driver is noticed when reading back.
    let _ = client.commands.send(Command::Put { key, value, to }).await;
    read_back(client, key, &mine, closest).await
}

/// Asks those who were given it until enough of them serve it.
async fn read_back(
    client: &Client,
    key: RecordKey,
    mine: &Descriptor,
    mut missing: Vec<Holder>,
) -> Result<Published, PublishError> {
    let asked = missing.len();
    let enough = (asked as f64 * ENOUGH).ceil() as usize;
    let (mut holders, mut reached) = (0, 0);
    for pause in READ_BACK_AFTER {
        if holders >= enough || missing.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        let ask = |holder: Holder| async move {
            let request = Request::Find { key: key.0 };
            let answer = client.request(holder.peer, holder.addrs.clone(), request, ASK_TIME).await;
            (holder, answer)
        };
        let mut answers: FuturesUnordered<_> = missing.drain(..).map(ask).collect();
        while let Some((holder, answer)) = answers.next().await {
            match answer {
                Ok(Response::Found { set: Some(bytes), .. }) if is_in(&key, mine, &bytes) => {
                    holders += 1;
                    reached += 1;
                }
                Ok(_) => {
                    reached += 1;
                    missing.push(holder);
                }
                // Gone: no use in asking it again.
                Err(_) => {}
            }
        }
    }
    match (holders, reached) {
        (0, 0) => Err(PublishError::Offline),
        (0, reached) => Err(PublishError::NotHeld(reached)),
        (holders, _) => Ok(Published { holders, asked, directories: 0 }),
    }
}

/// Whether what a node serves is mine, or a later one that another process of the same directory has signed.
fn is_in(key: &RecordKey, mine: &Descriptor, bytes: &[u8]) -> bool {
    let served =
        SignedDescriptor::from_bytes(bytes).and_then(|signed| signed.verify_stored(key, wall_clock()));
    served.is_ok_and(|served| served.issued >= mine.issued)
}
