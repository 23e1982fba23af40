//! The sessions of one tunnel, and the rule that decides under which one we send.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::own_key::OwnKey;
use super::session::{PeerKey, Session};
use crate::wire::tunnel::SealedHeader;

/// Most keys of the peer that nothing has confirmed; anybody who recorded key exchanges of the
/// peer can make some. The one that was named longest ago goes first.
const MAX_CANDIDATES: usize = 4;
/// Most sessions at a time. In peace there are one or two, and four when two rekeys cross.
const MAX_SESSIONS: usize = 16;
/// How long the session in use may stay silent, while it is asked, before we believe a key
/// exchange that says that the peer has another key.
const GIVE_IN_AFTER: Duration = Duration::from_secs(1);

/// Names a session: generations of our key and of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId {
    pub(super) own: u32,
    pub(super) peer: u32,
}

/// What the first frame under a session tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// Nothing new.
    Nothing,
    /// The peer uses a newer session; so do we now.
    Rekeyed,
    /// The peer has a new key and does not remember the old one.
    Restarted,
}

/// How a key of the peer that was just confirmed relates to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// The peer goes on with it: it is the first one, known already, or follows on another.
    Goes,
    /// The peer had it before; its key exchange came late.
    Earlier,
    /// The peer knows nothing of the others.
    Stranger,
}

/// All sessions of a tunnel.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    list: Vec<Session>,
    sending: Option<SessionId>,
}

impl Session {
    pub(super) fn id(&self) -> SessionId {
        SessionId { own: self.own_generation, peer: self.peer_generation }
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.is_some()
    }
}

impl Sessions {
    /// Adds a session; the first one is sent under, and so is one that comes while nothing has
    /// confirmed the one in use (the latest key exchange is as good as the one before).
    ///
    /// Otherwise the new one is a candidate. It and the session in use are asked which of them
    /// the peer has: anybody can repeat an old key exchange, so alone it changes nothing.
    pub(super) fn add(&mut self, now: Instant, session: Session, own: &mut OwnKey) {
        let id = session.id();
        self.list.push(session);
        self.evict(own, id);
        if !self.is_settled() {
            self.sending = Some(id);
            return;
        }
        if let Some(candidate) = self.get_mut(id) {
            candidate.probe.start(now);
        }
        if let Some(in_use) = self.sending.and_then(|sending| self.get_mut(sending))
            && in_use.peer_generation < id.peer
        {
            in_use.probe.start(now);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The session under which we send.
    pub(super) fn sending(&self) -> Option<&Session> {
        self.get(self.sending?)
    }

    /// Whether the session under which we send is confirmed.
    pub(super) fn is_settled(&self) -> bool {
        self.sending().is_some_and(Session::is_confirmed)
    }

    /// Whether any frame has opened.
    pub(super) fn has_confirmed(&self) -> bool {
        self.list.iter().any(Session::is_confirmed)
    }

    /// The sessions with one key of the peer, under our key `own_generation` or a later one.
    pub(super) fn with<'a>(
        &'a self,
        peer_public: &'a [u8; 32],
        own_generation: u32,
    ) -> impl Iterator<Item = &'a Session> {
        self.list
            .iter()
            .filter(move |s| s.peer_public == *peer_public && s.own_generation >= own_generation)
    }

    /// The keys of the peer that it may be using now.
    pub(super) fn live_peer_keys(&self) -> Vec<PeerKey> {
        let live = self.list.iter().filter(|s| !s.is_confirmed() || s.superseded.is_none());
        let mut keys: Vec<_> = live
            .map(|s| PeerKey { generation: s.peer_generation, public: s.peer_public })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.list.iter().find(|s| s.id() == id)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.list.iter_mut().find(|s| s.id() == id)
    }

    /// Decrypts a frame in place with whichever session can.
    pub(super) fn decrypt(&self, header: &SealedHeader, sealed: &mut [u8]) -> Option<SessionId> {
        if let [only] = self.list.as_slice() {
            return only.decrypts_alone(header, sealed).then(|| only.id());
        }
        // The session in use first, then those that know the prefix, then the others. Only the
        // first frames after a key exchange get further than the first attempt.
        let is_likely = |s: &&Session| s.knows_prefix(header.nonce_prefix);
        let likely = self.sending().into_iter().chain(&self.list).filter(is_likely);
        let unlikely = self.list.iter().rev().filter(|s| !is_likely(s));
        likely.chain(unlikely).find(|s| s.decrypts(header, sealed)).map(Session::id)
    }

    /// A key exchange names `peer_public`, which we know: it is kept for a while longer. If the
    /// session in use is silent, both are asked again; if it never was confirmed, the latest key
    /// exchange decides.
    pub(super) fn named(&mut self, now: Instant, peer_public: &[u8; 32]) {
        let mut ask = false;
        for session in self.list.iter_mut().filter(|s| s.peer_public == *peer_public) {
            session.named = now;
            if !session.is_confirmed() && session.suspected + GIVE_IN_AFTER <= now {
                session.suspected = now;
                session.tried = false;
                session.probe.start(now);
                ask = true;
            }
        }
        let best = self.best(|s| s.peer_public == *peer_public);
        match (self.sending().is_some_and(|s| s.peer_public == *peer_public), best) {
            (false, Some(best)) if !self.is_settled() => self.send_under(now, best),
            (false, _) if ask => {
                if let Some(session) = self.sending.and_then(|id| self.get_mut(id)) {
                    session.probe.start(now);
                }
            }
            _ => {}
        }
    }

    /// A fresh frame opened under session `id`, with this prefix. Moves on to the session that
    /// the peer has shown to have.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        id: SessionId,
        prefix: [u8; 4],
        own: &mut OwnKey,
    ) -> Learned {
        let Some(session) = self.get_mut(id) else { return Learned::Nothing };
        let is_first = session.opened.is_none();
        session.opened = Some(now);
        session.probe.stop();
        if session.is_confirmed() && !is_first {
            if !self.is_settled() {
                self.send_under(now, id);
            }
            return Learned::Nothing;
        }
        let relation = self.relation(id, prefix);
        let Some(session) = self.get_mut(id) else { return Learned::Nothing };
        session.confirmed.get_or_insert(now);
        session.outdated = relation == Relation::Earlier;
        let peer_generation = session.peer_generation;
        match relation {
            Relation::Goes => {}
            // It can still say something, but nothing moves.
            Relation::Earlier => return Learned::Nothing,
            Relation::Stranger => {
                self.send_under(now, id);
                // Later keys stay: they may be the next ones of the same peer.
                self.remove(own, |s| s.peer_generation < peer_generation);
                return Learned::Restarted;
            }
        }
        // Keys that never opened anything and are older than this one will not any more.
        let confirmed: Vec<_> = self.confirmed().map(|s| s.peer_public).collect();
        self.remove(own, |s| {
            s.peer_generation < peer_generation && !confirmed.contains(&s.peer_public)
        });
        self.advance(now, id)
    }

    /// While the session in use is silent, and a key exchange says that the peer has another key,
    /// the other one is tried after a second. It is for 1.18 peers that restarted and answer no
    /// probe. Any frame under the old session turns it back.
    pub(super) fn give_in(&mut self, now: Instant) {
        if let Some((_, id)) = self.next_give_in().filter(|(at, _)| *at <= now) {
            if let Some(session) = self.get_mut(id) {
                session.tried = true;
            }
            self.send_under(now, id);
        }
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Instant, own: &mut OwnKey) {
        let (sending, settled) = (self.sending, self.is_settled());
        self.remove(own, |s| {
            s.expires() <= now && Some(s.id()) != sending && (settled || !s.is_confirmed())
        });
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let settled = self.is_settled();
        let expiries = self
            .list
            .iter()
            .filter(|s| Some(s.id()) != self.sending && (settled || !s.is_confirmed()))
            .map(Session::expires);
        let probes = self.list.iter().filter_map(|s| s.probe.next());
        expiries.chain(probes).chain(self.next_give_in().map(|(at, _)| at)).min()
    }

    /// The session whose probe is due.
    pub(super) fn take_due_probe(&mut self, now: Instant) -> Option<&Session> {
        let at = self.list.iter_mut().position(|s| s.probe.take_due(now))?;
        self.list.get(at)
    }

    /// Starts probes under the sessions of one key of ours.
    pub(super) fn probe_own(&mut self, now: Instant, own_generation: u32) {
        let ours = |s: &&mut Session| s.own_generation == own_generation && s.opened.is_none();
        self.list.iter_mut().filter(ours).for_each(|s| s.probe.start(now));
    }

    fn confirmed(&self) -> impl Iterator<Item = &Session> {
        self.list.iter().filter(|s| s.is_confirmed() && !s.outdated)
    }

    /// What the first frame under `id` says about the peer that we know by other keys.
    fn relation(&self, id: SessionId, prefix: [u8; 4]) -> Relation {
        let Some(session) = self.get(id) else { return Relation::Goes };
        let shown: Vec<_> = self.confirmed().map(|s| s.peer_generation).collect();
        if shown.iter().all(|newest| session.peer_generation > *newest) && !shown.is_empty() {
            let mut known = self.list.iter().filter(|s| shown.contains(&s.peer_generation));
            if known.clone().any(|later| session.was_continued_by(later)) {
                return Relation::Earlier;
            }
            if !known.any(|old| old.is_continued_by(session, prefix)) {
                return Relation::Stranger;
            }
        }
        Relation::Goes
    }

    /// Sends under the newest session whose halves are both confirmed, if `id` shows that there
    /// is a newer one than that in use.
    ///
    /// Two key exchanges that cross leave four sessions, and each side may see another one
    /// first. Both halves of the newest are then known on both sides, so both go there.
    fn advance(&mut self, now: Instant, id: SessionId) -> Learned {
        let own = self.confirmed().map(|s| s.own_generation).max();
        let peer = self.confirmed().map(|s| s.peer_generation).max();
        let newest = own.zip(peer).map(|(own, peer)| SessionId { own, peer });
        let best = newest.filter(|id| self.get(*id).is_some()).unwrap_or(id);
        let (was_settled, rank) = (self.is_settled(), self.sending().map(Session::rank));
        let best_rank = self.get(best).map(Session::rank);
        if Some(best) == self.sending || (was_settled && best_rank <= rank) {
            return Learned::Nothing;
        }
        if let Some(session) = self.get_mut(best) {
            session.confirmed.get_or_insert(now);
        }
        self.send_under(now, best);
        if was_settled { Learned::Rekeyed } else { Learned::Nothing }
    }

    fn send_under(&mut self, now: Instant, id: SessionId) {
        if let Some(old) = self.sending.and_then(|old| self.get_mut(old)) {
            old.superseded = Some(now);
        }
        if let Some(new) = self.get_mut(id) {
            new.superseded = None;
        }
        self.sending = Some(id);
    }

    /// When to try another session than the silent one in use, and which.
    fn next_give_in(&self) -> Option<(Instant, SessionId)> {
        let sending = self.sending().filter(|s| s.is_confirmed())?;
        self.list
            .iter()
            .filter(|s| !s.is_confirmed() && !s.tried)
            .filter(|s| s.peer_generation > sending.peer_generation)
            .filter(|s| sending.opened.is_none_or(|at| at < s.suspected))
            .map(|s| (s.suspected + GIVE_IN_AFTER, s.id()))
            .min_by_key(|(at, id)| (*at, std::cmp::Reverse(id.own)))
    }

    /// The confirmed one of the highest rank, or else the highest rank.
    fn best(&self, of: impl Fn(&Session) -> bool) -> Option<SessionId> {
        let candidates = self.list.iter().filter(|s| of(s));
        candidates.max_by_key(|s| (s.is_confirmed(), s.rank())).map(Session::id)
    }

    /// Makes room, but not at the cost of `added` or of the session in use.
    fn evict(&mut self, own: &mut OwnKey, added: SessionId) {
        let kept = [Some(added.peer), self.sending.map(|id| id.peer)];
        let shown: Vec<_> = self.confirmed().map(|s| s.peer_generation).collect();
        let is_candidate = |s: &Session| {
            !shown.contains(&s.peer_generation) && !kept.contains(&Some(s.peer_generation))
        };
        let mut last_named = BTreeMap::new();
        for session in self.list.iter().filter(|s| is_candidate(s)) {
            let last = last_named.entry(session.peer_generation).or_insert(session.named);
            *last = session.named.max(*last);
        }
        let mut oldest_first: Vec<_> =
            last_named.into_iter().map(|(peer, at)| (at, peer)).collect();
        oldest_first.sort_unstable();
        let surplus = oldest_first.len().saturating_sub(MAX_CANDIDATES);
        for (_, peer) in oldest_first.into_iter().take(surplus) {
            self.remove(own, |s| s.peer_generation == peer);
        }
        while self.list.len() > MAX_SESSIONS {
            let kept = [Some(added), self.sending];
            let others = self.list.iter().filter(|s| !kept.contains(&Some(s.id())));
            let oldest = others.min_by_key(|s| s.expires()).map(Session::id);
            self.remove(own, |s| Some(s.id()) == oldest);
        }
    }

    /// Removes sessions; those that opened frames can never be derived again.
    fn remove(&mut self, own: &mut OwnKey, which: impl Fn(&Session) -> bool) {
        self.list.retain(|s| {
            let goes = which(s);
            if goes && s.is_confirmed() && s.own_generation == own.generation() {
                own.retire(s.peer_public);
            }
            !goes
        });
    }
}
