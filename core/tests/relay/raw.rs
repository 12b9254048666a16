//! Single requests, to see which error code comes back.

use std::net::SocketAddr;
use std::time::Duration;

use offhook::proto::relay::RelayTicket;
use stun_types::attribute::{AttributeType, ErrorCode, Nonce, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWrite,
    MessageWriteExt, MessageWriteVec, Method, TransactionId,
};
use stun_types::prelude::AttributeWrite;
use turn_types::attribute::{Lifetime, RequestedTransport, XorRelayedAddress};
use turn_types::message::{ALLOCATE, REFRESH};

use crate::client::{Link, PATIENCE};

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Success,
    Error(u16),
}

/// A client that signs what it is told to send.
pub struct Raw {
    pub link: Link,
    name: String,
    password: String,
    nonce: Option<String>,
    pub last: Vec<u8>,
}

impl Raw {
    pub fn new(link: Link, ticket: &RelayTicket) -> Self {
        let (name, password) = (ticket.username.clone(), ticket.password.clone());
        Self { link, name, password, nonce: None, last: Vec::new() }
    }

    /// One that has been challenged.
    pub async fn challenged(link: Link, ticket: &RelayTicket) -> Self {
        let mut raw = Self::new(link, ticket);
        assert_eq!(raw.request(ALLOCATE, &[&udp()]).await, Answer::Error(401));
        let challenge = Message::from_bytes(&raw.last).unwrap();
        assert_eq!(challenge.attribute::<Realm>().unwrap().realm(), "offhook");
        raw.nonce = Some(challenge.attribute::<Nonce>().unwrap().nonce().to_owned());
        raw
    }

    /// One that has an allocation, and where.
    pub async fn allocated(link: Link, ticket: &RelayTicket) -> (Self, SocketAddr) {
        let mut raw = Self::challenged(link, ticket).await;
        assert_eq!(raw.allocate().await, Answer::Success);
        let answer = Message::from_bytes(&raw.last).unwrap();
        let relayed = answer.attribute::<XorRelayedAddress>().unwrap().addr(answer.transaction_id());
        (raw, relayed)
    }

    pub fn set_nonce(&mut self, nonce: &str) {
        self.nonce = Some(nonce.to_owned());
    }

    pub fn nonce(&self) -> &str {
        self.nonce.as_deref().unwrap()
    }

    pub fn become_user(&mut self, ticket: &RelayTicket) {
        (self.name, self.password) = (ticket.username.clone(), ticket.password.clone());
    }

    pub async fn allocate(&mut self) -> Answer {
        self.request(ALLOCATE, &[&udp()]).await
    }

    pub async fn refresh(&mut self, seconds: u32) -> Answer {
        self.request(REFRESH, &[&Lifetime::new(seconds)]).await
    }

    /// A request with the credentials that it has by now.
    pub fn write(&self, method: Method, id: TransactionId, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, id, MessageWriteVec::new());
        for attribute in attributes {
            message.push_attribute_unchecked(*attribute);
        }
        if let Some(nonce) = &self.nonce {
            message.add_attribute(&Username::new(&self.name).unwrap()).unwrap();
            message.add_attribute(&Realm::new("offhook").unwrap()).unwrap();
            message.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
            let credentials =
                LongTermKeyCredentials::new(self.name.clone(), self.password.clone(), "offhook".to_owned());
            let key = credentials.make_key(IntegrityAlgorithm::Sha1);
            message.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
        }
        message.finish()
    }

    pub async fn request(&mut self, method: Method, attributes: &[&dyn AttributeWrite]) -> Answer {
        self.request_as(TransactionId::generate(), method, attributes).await
    }

    pub async fn request_as(
        &mut self,
        id: TransactionId,
        method: Method,
        attributes: &[&dyn AttributeWrite],
    ) -> Answer {
        let bytes = self.write(method, id, attributes);
        for _ in 0..10 {
            self.link.send(&bytes).await;
            if let Some(answer) = self.answer(id, PATIENCE / 10).await {
                return answer;
            }
        }
        panic!("no answer");
    }

    /// The answer to a request, if it comes in time.
    pub async fn answer(&mut self, id: TransactionId, time: Duration) -> Option<Answer> {
        let wait = async {
            loop {
                let bytes = self.link.receive().await;
                match Message::from_bytes(&bytes) {
                    Ok(message) if message.transaction_id() == id => {}
                    Ok(_) | Err(_) => continue,
                }
                self.last = bytes;
                let message = Message::from_bytes(&self.last).unwrap();
                return match message.has_class(MessageClass::Success) {
                    true => Answer::Success,
                    false => Answer::Error(message.attribute::<ErrorCode>().unwrap().code()),
                };
            }
        };
        tokio::time::timeout(time, wait).await.ok()
    }
}

pub fn udp() -> RequestedTransport {
    RequestedTransport::new(RequestedTransport::UDP)
}

/// An attribute that nobody knows and everybody must understand.
#[derive(Debug)]
pub struct Strange;

impl stun_types::prelude::Attribute for Strange {
    fn get_type(&self) -> AttributeType {
        AttributeType::new(0x7ff0)
    }

    fn length(&self) -> u16 {
        4
    }
}

impl AttributeWrite for Strange {
    fn to_raw(&self) -> stun_types::attribute::RawAttribute<'_> {
        stun_types::attribute::RawAttribute::new(AttributeType::new(0x7ff0), &[0; 4])
    }

    fn write_into_unchecked(&self, dest: &mut [u8]) {
        dest[..8].copy_from_slice(&[0x7f, 0xf0, 0, 4, 0, 0, 0, 0]);
    }
}
