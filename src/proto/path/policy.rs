//! What the user wants of paths.

/// What a stream or a message is, as far as paths are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum TrafficClass {
    /// Nothing special.
    #[default]
    Normal,
    /// Much of it, and it can wait.
    Bulk,
    /// Little of it, and it must arrive soon.
    Control,
}

/// Which paths a class may take.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ClassRule {
    /// The best one.
    #[default]
    Any,
    /// Direct ones only; while there is none, it waits.
    DirectOnly,
    /// The best two at once: what one loses comes by the other.
    Duplicate,
}

/// Which paths may be used at all, and what for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PathPolicy {
    /// Direct paths are tried, and peers are told our addresses. Without, nobody but the beacon
    /// learns where we are.
    pub direct: bool,
    /// The relay is used.
    pub relay: bool,
    /// Direct paths lead to addresses of local networks only.
    pub lan_only: bool,
    /// For [`TrafficClass::Normal`].
    pub normal: ClassRule,
    /// For [`TrafficClass::Bulk`].
    pub bulk: ClassRule,
    /// For [`TrafficClass::Control`].
    pub control: ClassRule,
}

impl Default for PathPolicy {
    fn default() -> Self {
        Self {
            direct: true,
            relay: true,
            lan_only: false,
            normal: ClassRule::Any,
            bulk: ClassRule::Any,
            control: ClassRule::Any,
        }
    }
}

impl PathPolicy {
    /// The rule for a class.
    #[must_use]
    pub fn rule(&self, class: TrafficClass) -> ClassRule {
        match class {
            TrafficClass::Normal => self.normal,
            TrafficClass::Bulk => self.bulk,
            TrafficClass::Control => self.control,
        }
    }
}
