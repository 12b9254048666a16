//! QUIC for one call: a certificate of its own, the other end's pinned, and transport settings for voice.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use sha2::{Digest, Sha256};

use super::socket::MediaSocket;
use super::types::MediaError;

/// Protocol of the connection (ALPN, RFC 7301).
const ALPN: &[u8] = b"offhook-media/1";
/// Name in the certificates; the fingerprint alone counts.
pub(super) const SERVER_NAME: &str = "offhook";
/// First guess of the round-trip time: a lost handshake packet is repeated after three times this. 333 ms by
/// default (RFC 9002 section 6.2.2), which cost a second on lossy paths.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Congestion window in bytes, fixed: voice must not wait behind a window that shrinks when acknowledgements
/// get lost. The rate is controlled by the codec instead.
const WINDOW: u64 = 256 * 1024;
/// Datagrams that wait for the socket, in bytes; the oldest goes first. A second of voice is 4 to 5 KB.
const SEND_BUFFER: usize = 4_096;
/// Datagrams that wait for us, in bytes.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Largest stream data in flight that the other end may send us unread.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Key and certificate of one leg.
pub(super) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    /// SHA-256 of the certificate's DER encoding.
    pub(super) fingerprint: [u8; 32],
}

impl Identity {
    /// A fresh Ed25519 key with a self-signed certificate.
    pub(super) fn generate() -> Result<Identity, MediaError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|_| MediaError::Keys)?;
        let certificate = rcgen::CertificateParams::new(vec![SERVER_NAME.into()])
            .and_then(|params| params.self_signed(&key))
            .map_err(|_| MediaError::Keys)?;
        let certificate = certificate.der().clone();
        let fingerprint = fingerprint(&certificate);
        Ok(Identity { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()), fingerprint })
    }

    /// TLS and transport of the caller, who talks to the owner of the certificate `pinned` only.
    pub(super) fn client(&self, pinned: [u8; 32]) -> Result<quinn::ClientConfig, MediaError> {
        let pin = Pin::new(pinned);
        let mut tls = rustls::ClientConfig::builder_with_provider(pin.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| MediaError::Keys)?
            .dangerous()
            .with_custom_certificate_verifier(pin)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key())
            .map_err(|_| MediaError::Keys)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = rustls::client::Resumption::disabled();
        let tls = QuicClientConfig::try_from(tls).map_err(|_| MediaError::Keys)?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(transport());
        Ok(config)
    }

    /// The same for the callee.
    pub(super) fn server(&self, pinned: [u8; 32]) -> Result<quinn::ServerConfig, MediaError> {
        let pin = Pin::new(pinned);
        let mut tls = rustls::ServerConfig::builder_with_provider(pin.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| MediaError::Keys)?
            .with_client_cert_verifier(pin)
            .with_single_cert(vec![self.certificate.clone()], self.key())
            .map_err(|_| MediaError::Keys)?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = 0;
        let tls = QuicServerConfig::try_from(tls).map_err(|_| MediaError::Keys)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport());
        // The peer's address is virtual and constant, so there is nothing to migrate to.
        config.migration(false);
        config.max_incoming(super::session::MAX_HANDSHAKES);
        Ok(config)
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

/// What signalling tells about a certificate.
fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

/// The endpoint on the leg's socket. STUN is told from QUIC by the fixed bit (RFC 9443 section 3), so it must not
/// be greased (RFC 9287).
pub(super) fn endpoint(socket: Arc<MediaSocket>) -> std::io::Result<quinn::Endpoint> {
    let mut config = quinn::EndpointConfig::default();
    config.grease_quic_bit(false).cid_generator(|| Box::new(ShortIds));
    quinn::Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(quinn::TokioRuntime))
}

/// Connection ids (RFC 9000 section 5.1) of two bytes: an endpoint has one connection, and a few more at most while handshakes go on, and
/// its peer one address that never changes. Quinn's have eight, and each packet carries one: a thirtieth of what voice takes.
struct ShortIds;

impl quinn::ConnectionIdGenerator for ShortIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        quinn::ConnectionId::new(&rand::random::<[u8; 2]>())
    }

    fn cid_len(&self) -> usize {
        2
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport() -> Arc<quinn::TransportConfig> {
    let mut config = quinn::TransportConfig::default();
    config
        // The leg looks after both itself: while it rings nothing is sent through the tunnel, for however long.
        .max_idle_timeout(None)
        .keep_alive_interval(None)
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(None)
        .datagram_send_buffer_size(SEND_BUFFER)
        .datagram_receive_buffer_size(Some(RECEIVE_BUFFER))
        .congestion_controller_factory(Arc::new(FixedWindow))
        // One control stream, which the caller opens.
        .max_concurrent_bidi_streams(1u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(STREAM_WINDOW.into());
    Arc::new(config)
}

/// Accepts exactly one certificate, whoever presents it, by its fingerprint.
#[derive(Debug)]
struct Pin {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl Pin {
    fn new(fingerprint: [u8; 32]) -> Arc<Pin> {
        // libp2p brings another provider into the process, so ours is always named.
        Arc::new(Pin { fingerprint, provider: Arc::new(rustls::crypto::ring::default_provider()) })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if fingerprint(certificate) == self.fingerprint {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }
}

/// TLS 1.2 is not offered.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::PeerIncompatible::Tls12NotOffered.into())
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pin {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A congestion controller that never changes its window.
#[derive(Debug, Clone, Copy)]
struct FixedWindow;

impl ControllerFactory for FixedWindow {
    fn build(self: Arc<Self>, _now: Instant, _mtu: u16) -> Box<dyn Controller> {
        Box::new(FixedWindow)
    }
}

impl Controller for FixedWindow {
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost: u64) {}

    fn on_mtu_update(&mut self, _mtu: u16) {}

    fn window(&self) -> u64 {
        WINDOW
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn initial_window(&self) -> u64 {
        WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
