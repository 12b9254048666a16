//! The narrowband E-model whole (Recommendation ITU-T G.107 section 7): noise, levels, sidetone and echo, too.
//!
//! For lines of the telephone's band from 300 to 3,400 Hz. It is also what shows that the parts shared with the fullband model are
//! right, since its figures are known. Names are those of the recommendation.

use std::time::Duration;

use super::{absolute_delay, equipment};

/// What a connection is like; the default is that of table 3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Connection {
    /// Send loudness rating, dB.
    pub slr: f64,
    /// Receive loudness rating, dB.
    pub rlr: f64,
    /// Sidetone masking rating, dB.
    pub stmr: f64,
    /// Listener's sidetone rating, dB.
    pub lstr: f64,
    /// D-value of the sender's telephone.
    pub ds: f64,
    /// Talker echo loudness rating, dB.
    pub telr: f64,
    /// Weighted echo path loss, dB.
    pub wepl: f64,
    /// Mean one-way delay of the echo path.
    pub t: Duration,
    /// Round trip in a four-wire loop.
    pub tr: Duration,
    /// Absolute delay from mouth to ear.
    pub ta: Duration,
    /// Quantising distortion units.
    pub qdu: f64,
    /// Equipment impairment factor.
    pub ie: f64,
    /// Packet-loss robustness factor, percent.
    pub bpl: f64,
    /// Share of packets lost, 0 to 1.
    pub lost: f64,
    /// Burst ratio, 1 for independent losses.
    pub burst_ratio: f64,
    /// Circuit noise at the 0 dBr point, dBm0p.
    pub nc: f64,
    /// Noise floor at the receiver's side, dBmp.
    pub nfor: f64,
    /// Room noise of the sender, dB(A).
    pub ps: f64,
    /// Room noise of the receiver, dB(A).
    pub pr: f64,
    /// Advantage of access.
    pub advantage: f64,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection {
            slr: 8.0,
            rlr: 2.0,
            stmr: 15.0,
            lstr: 18.0,
            ds: 3.0,
            telr: 65.0,
            wepl: 110.0,
            t: Duration::ZERO,
            tr: Duration::ZERO,
            ta: Duration::ZERO,
            qdu: 1.0,
            ie: 0.0,
            bpl: 4.3,
            lost: 0.0,
            burst_ratio: 1.0,
            nc: -70.0,
            nfor: -64.0,
            ps: 35.0,
            pr: 35.0,
            advantage: 0.0,
        }
    }
}

impl Connection {
    /// `R`, 93.2 for the default.
    pub fn rating(&self) -> f64 {
        let noise = self.noise();
        let ro = 15.0 - 1.5 * (self.slr + noise);
        let equipment = equipment(self.ie, self.bpl, self.lost, self.burst_ratio, 95.0);
        ro - self.simultaneous(ro, noise) - self.delay(ro, noise) - equipment + self.advantage
    }

    /// `No`, the sum of all noise at the 0 dBr point, dBm0p (section 7.2).
    fn noise(&self) -> f64 {
        let loudness = self.slr + self.rlr;
        let from_sender =
            self.ps - self.slr - self.ds - 100.0 + 0.004 * (self.ps - loudness - self.ds - 14.0).powi(2);
        let room = self.pr + 10.0 * (1.0 + power(10.0 - self.lstr)).log10();
        let from_receiver = self.rlr - 121.0 + room + 0.008 * (room - 35.0).powi(2);
        let floor = self.nfor + self.rlr;
        10.0 * [self.nc, from_sender, from_receiver, floor].map(power).iter().sum::<f64>().log10()
    }

    /// `Is`: what comes with the voice (section 7.3): a loudness that is too high, sidetone, quantising.
    fn simultaneous(&self, ro: f64, noise: f64) -> f64 {
        let x = self.slr + self.rlr + 0.2 * (64.0 + noise - self.rlr);
        let loudness = 20.0 * ((1.0 + (x / 8.0).powi(8)).powf(0.125) - x / 8.0);
        let q = 37.0 - 15.0 * self.qdu.log10();
        let g = 1.07 + 0.258 * q + 0.0602 * q * q;
        let y = (ro - 100.0) / 15.0 + 46.0 / 8.4 - g / 9.0;
        let z = 46.0 / 30.0 - g / 40.0;
        let quantising = 15.0 * (1.0 + 10f64.powf(y) + 10f64.powf(z)).log10();
        loudness + self.sidetone() + quantising
    }

    /// `Ist`, with the echo that comes back at once.
    fn sidetone(&self) -> f64 {
        let echo = (-ms(self.t) / 4.0).exp() * power(-self.telr);
        let stmr = -10.0 * (power(-self.stmr) + echo).log10();
        let part = |shift: f64, scale: f64, order: f64| {
            (1.0 + ((stmr + shift) / scale).powf(order)).powf(1.0 / order)
        };
        12.0 * part(-13.0, 6.0, 8.0) - 28.0 * part(1.0, 19.4, 35.0) - 13.0 * part(-3.0, 33.0, 13.0) + 29.0
    }

    /// `Id` (section 7.4): the talker's echo, the listener's, and the delay itself.
    fn delay(&self, ro: f64, noise: f64) -> f64 {
        self.talker_echo(noise) + self.listener_echo(ro) + absolute_delay(self.ta)
    }

    /// `Idte`; with 0 for less than a millisecond.
    fn talker_echo(&self, noise: f64) -> f64 {
        let t = ms(self.t);
        if t < 1.0 {
            return 0.0;
        }
        let weak = if self.stmr < 9.0 { self.sidetone() / 2.0 } else { 0.0 };
        let terv = self.telr - 40.0 * ((1.0 + t / 10.0) / (1.0 + t / 150.0)).log10()
            + 6.0 * (-0.3 * t * t).exp()
            + weak;
        let (roe, re) = (-1.5 * (noise - self.rlr), 80.0 + 2.5 * (terv - 14.0));
        let half = (roe - re) / 2.0;
        let echo = (half + (half * half + 100.0).sqrt() - 1.0) * (1.0 - (-t).exp());
        match self.stmr > 20.0 {
            true => (echo.powi(2) + self.sidetone().powi(2)).sqrt(),
            false => echo,
        }
    }

    /// `Idle`.
    fn listener_echo(&self, ro: f64) -> f64 {
        let rle = 10.5 * (self.wepl + 7.0) * (ms(self.tr) + 1.0).powf(-0.25);
        let half = (ro - rle) / 2.0;
        half + (half * half + 169.0).sqrt()
    }
}

/// What decibels are as a power.
fn power(db: f64) -> f64 {
    10f64.powf(db / 10.0)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64) -> f64 {
        let (t, tr) = (Duration::from_millis(ms), Duration::from_millis(2 * ms));
        Connection { t, tr, ta: t, ..Connection::default() }.rating()
    }

    #[test]
    fn the_default_connection_has_93_2() {
        // G.107 section 7.7.
        assert_eq!((Connection::default().rating() * 10.0).round() / 10.0, 93.2);
    }

    #[test]
    fn delay_takes_away_what_is_known_of_it() {
        // R. G. Cole and J. H. Rosenbluth, "Voice over IP Performance Monitoring", ACM CCR 31(2), 2001: a fit to the model's curve.
        for ms in [25, 50, 100, 150, 200, 250, 300] {
            let d = ms as f64;
            let known = 0.024 * d + if d > 177.3 { 0.11 * (d - 177.3) } else { 0.0 };
            let taken = 93.2 - after(ms);
            assert!((taken - known).abs() < 1.5, "{ms} ms: {taken}, known {known}");
        }
    }

    #[test]
    fn loss_and_codec_are_subtracted() {
        let g729 = Connection { ie: 11.0, bpl: 19.0, ..Connection::default() };
        assert!((g729.rating() - 82.2).abs() < 0.05, "{}", g729.rating());
        let lossy = Connection { lost: 0.02, ..g729 };
        assert!((g729.rating() - lossy.rating() - 84.0 * 2.0 / 21.0).abs() < 1e-9);
        assert!(Connection { nc: -40.0, ..g729 }.rating() < g729.rating() - 10.0, "noise");
        assert!(Connection { telr: 40.0, t: Duration::from_millis(100), ..g729 }.rating() < 60.0, "echo");
    }
}
