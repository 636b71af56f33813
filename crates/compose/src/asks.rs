//! `x-lattice: {disk, bandwidth, gpu_share, gang}`: what a service asks for that Compose has no word for.

use crate::{
    problem::{Code, show},
    read::{Path, Reader},
    yaml::{Mapping, Node},
};
use lattice_model::{
    BitRate, Bytes,
    spec::{GpuCount, GpuRequest, Mode, WorkloadSpec},
};

/// The least that is worth setting aside.
const LEAST_DISK: Bytes = Bytes::MIB;
const LEAST_BANDWIDTH: BitRate = BitRate(1000);

impl Reader<'_> {
    /// After `deploy` and `array` were read, which say how many there are and which GPUs.
    pub(crate) fn x_asks(&mut self, service: &Mapping, path: &Path<'_>, spec: &mut WorkloadSpec) {
        let at = path.key("x-lattice");
        let Some(map) = Self::said(service, "x-lattice").and_then(|entry| entry.value.as_mapping()) else {
            return;
        };
        let resources = &mut spec.resources;
        resources.reserved_disk = self.amount(Self::said(map, "disk"), &at.key("disk"), LEAST_DISK);
        resources.reserved_bandwidth =
            self.amount(Self::said(map, "bandwidth"), &at.key("bandwidth"), LEAST_BANDWIDTH);
        if let Some(entry) = Self::said(map, "gpu_share") {
            let at = at.key("gpu_share");
            let one = spec.gpus.as_ref().is_none_or(|gpus| gpus.count == GpuCount::Exactly(1));
            if !one {
                let message = "a share is of one GPU, and the service asks for others";
                let hint = "Write `count: 1` beside it, or leave `gpus` out; or remove `gpu_share`";
                self.error(Code::Conflict, entry.key, at, message, hint);
            } else if let Some(share) = self.gpu_share(&entry.value, &at) {
                let gpus = spec.gpus.get_or_insert_with(|| GpuRequest::any(GpuCount::Exactly(1)));
                gpus.share = Some(share).filter(|share| *share < GpuRequest::WHOLE);
            }
        }
        if let Some(entry) = Self::said(map, "gang") {
            let at = at.key("gang");
            spec.placement.gang = self.boolean(&entry.value, &at).unwrap_or(false);
            let some_wait = spec.array.is_some_and(|array| array.parallel > 0);
            if spec.placement.gang && (spec.mode == Mode::Global || some_wait) {
                let message = "a gang is placed all at once, and of these some come later than others";
                let hint = "Remove `gang`; or write `array: true`, or another `mode`";
                self.error(Code::Conflict, entry.key, at, message, hint);
            }
        }
    }

    /// `0.25` or `25%`, in thousandths.
    fn gpu_share(&mut self, node: &Node, path: &Path<'_>) -> Option<u16> {
        let text = self.text(node, path)?.trim();
        let (number, of) = text.strip_suffix('%').map_or((text, 1000.0), |number| (number, 10.0));
        let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let share = number.parse::<f64>().ok().filter(|_| plain).map(|share| (share * of).round());
        match share {
            Some(share) if (1.0..=f64::from(GpuRequest::WHOLE)).contains(&share) => Some(share as u16),
            _ => {
                let message = format!("`{}` is no share of a GPU", show(text));
                self.error(Code::Invalid, node.span, path, message, "Write `0.25` or `25%`, up to all of it");
                None
            }
        }
    }
}
