//! What is known of the published layers that hosts share: each is looked into once, and what kernel, base and agent are one over
//! the other is found once for all the hosts that boot them.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use towline_contract::Digest;
use towline_contract::manifest::{Kind, Manifest};
use towline_initramfs::chain;
use towline_initramfs::kernel::Drives;
use towline_initramfs::places::Place;

use crate::catalogue::Published;
use crate::collisions::{Placed, Stacked, Verdict};

/// What one layer holds.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// Its paths.
    pub places: Vec<Place>,
    /// Of a kernel layer, the devices and firmware that its modules are for.
    pub drives: Option<Drives>,
}

/// What a layer holds, or why that cannot be read.
type Read = Result<Holds, String>;

/// What layers hold; read when it is first asked for.
pub struct Holdings<'r> {
    read: Box<dyn Fn(&Manifest) -> Read + 'r>,
    cells: HashMap<Digest, OnceCell<Read>>,
}

impl<'r> Holdings<'r> {
    /// Those of these layers and of others; what is read of the others is not kept.
    #[must_use]
    pub fn new(
        layers: &[Published],
        read: impl Fn(&Manifest) -> Result<Holds, String> + 'r,
    ) -> Self {
        let cell = |it: &Published| (it.manifest.digest, OnceCell::new());
        Self {
            read: Box::new(read),
            cells: layers.iter().map(cell).collect(),
        }
    }

    fn kept(&self, manifest: &Manifest) -> Option<&Result<Holds, String>> {
        let cell = self.cells.get(&manifest.digest)?;
        Some(cell.get_or_init(|| (self.read)(manifest)))
    }

    fn once(&self, manifest: &Manifest) -> Result<Holds, String> {
        (self.read)(manifest)
    }
}

/// The layers that hosts share.
pub struct Known<'k> {
    layers: HashMap<Digest, &'k Manifest>,
    holdings: &'k Holdings<'k>,
    stacks: RefCell<HashMap<Vec<Digest>, Rc<Stack<'k>>>>,
}

impl<'k> Known<'k> {
    /// These layers, whose holdings are kept there.
    #[must_use]
    pub fn of(layers: &'k [Published], holdings: &'k Holdings<'k>) -> Self {
        let row = |it: &'k Published| (it.manifest.digest, &it.manifest);
        Self {
            layers: layers.iter().map(row).collect(),
            holdings,
            stacks: RefCell::default(),
        }
    }

    /// Those of a chain that hosts share, one over the other.
    pub(super) fn stack(&self, chain: &[&Manifest]) -> Rc<Stack<'k>> {
        let shared = chain.iter().filter(|it| it.kind != Kind::Host);
        let shared = shared.filter_map(|it| self.layers.get(&it.digest).copied());
        let shared: Vec<&'k Manifest> = shared.collect();
        let key: Vec<_> = shared.iter().map(|it| it.digest).collect();
        if let Some(stack) = self.stacks.borrow().get(&key) {
            return Rc::clone(stack);
        }
        let stack = Rc::new(Stack::of(&shared, self.holdings));
        self.stacks.borrow_mut().insert(key, Rc::clone(&stack));
        stack
    }

    /// What comes of placing a host's own layer over those.
    pub(super) fn placed(&self, stack: &Stack<'k>, host: &Manifest) -> Result<Verdict, String> {
        let Some(stacked) = &stack.stacked else {
            return Ok(Verdict::default());
        };
        let holds = self.holdings.once(host)?;
        let (manifest, places) = (host, holds.places.as_slice());
        Ok(stacked.judge(Placed { manifest, places }))
    }
}

/// Kernel, base and agent, one over the other.
pub(super) struct Stack<'k> {
    /// What they bring.
    pub(super) needs: chain::Stack<'k>,
    /// What they need and do not bring: target name of the layer, and what.
    pub(super) unresolved: Vec<(String, String)>,
    /// The tree that they make; none when one is missing or cannot be read.
    stacked: Option<Stacked<'k>>,
    /// Target names of those that cannot be read, and why.
    pub(super) unreadable: Vec<(String, String)>,
    /// What the kernel drives, and its target name.
    pub(super) kernel: Option<(String, &'k Drives)>,
    /// Whether it drives a device, by `modalias`: a fleet has few different ones.
    devices: RefCell<BTreeMap<String, bool>>,
}

impl<'k> Stack<'k> {
    fn of(layers: &[&'k Manifest], holdings: &'k Holdings<'k>) -> Self {
        let needs = chain::Stack::of(layers);
        let mut unreadable = Vec::new();
        let mut placed: Vec<Placed<'k>> = Vec::new();
        let mut kernel = None;
        for manifest in layers {
            match holdings.kept(manifest) {
                Some(Ok(holds)) => {
                    let drives = holds.drives.as_ref();
                    kernel = kernel.or(drives.map(|it| (manifest.target_name(), it)));
                    let places = holds.places.as_slice();
                    placed.push(Placed { manifest, places });
                }
                Some(Err(why)) => unreadable.push((manifest.target_name(), why.clone())),
                None => {}
            }
        }
        let of = |kind| placed.iter().find(|it| it.manifest.kind == kind).copied();
        let stacked = match (of(Kind::Kernel), of(Kind::Base)) {
            (Some(kernel), Some(base)) if unreadable.is_empty() => {
                let is_above =
                    |it: &&Placed<'_>| !matches!(it.manifest.kind, Kind::Kernel | Kind::Base);
                let above: Vec<_> = placed.iter().filter(is_above).copied().collect();
                Some(Stacked::of(kernel, base, &above))
            }
            _ => None,
        };
        // What should be in a layer that is not there is no news.
        let both = [Kind::Kernel, Kind::Base].map(|kind| layers.iter().any(|it| it.kind == kind));
        Self {
            unresolved: match both {
                [true, true] => needs.unresolved(),
                _ => Vec::new(),
            },
            needs,
            stacked,
            unreadable,
            kernel,
            devices: RefCell::default(),
        }
    }

    /// Whether kernel and base are there.
    pub(super) fn is_whole(&self) -> bool {
        self.needs.has(Kind::Kernel) && self.needs.has(Kind::Base)
    }

    /// What came of placing them.
    pub(super) fn verdict(&self) -> Verdict {
        let stacked = self.stacked.as_ref();
        stacked.map(|it| it.verdict.clone()).unwrap_or_default()
    }

    /// Whether the kernel drives the device; of a kernel that was not looked into, all are driven.
    pub(super) fn has_driver(&self, modalias: &str) -> bool {
        let Some((_, drives)) = &self.kernel else {
            return true;
        };
        if let Some(known) = self.devices.borrow().get(modalias) {
            return *known;
        }
        let has = drives.has_driver(modalias);
        self.devices.borrow_mut().insert(modalias.to_owned(), has);
        has
    }
}
