//! What the machine runs in, found out as `systemd-detect-virt` does, by files alone. The names are
//! those of that program, with the innermost first: a container in a virtual machine is a container.

use super::Roots;

/// What firmware calls itself, and what that is.
const FIRMWARE: [(&str, &str); 21] = [
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("KubeVirt", "kvm"),
    ("Amazon EC2", "amazon"),
    ("QEMU", "qemu"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Oracle Corporation", "oracle"),
    ("Xen", "xen"),
    ("HVM domU", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "microsoft"),
    ("Apple Virtualization", "apple"),
    ("Google Compute Engine", "google"),
    ("DigitalOcean", "kvm"),
    ("Hetzner", "kvm"),
    ("Alibaba Cloud ECS", "kvm"),
];

/// `none` on bare metal.
pub(super) fn virtualization(roots: &Roots) -> String {
    container(roots).or_else(|| machine(roots)).unwrap_or_else(|| "none".to_owned())
}

fn container(roots: &Roots) -> Option<String> {
    let release = roots.read("proc/sys/kernel/osrelease").to_ascii_lowercase();
    if release.contains("microsoft") || release.contains("wsl") {
        return Some("wsl".into());
    }
    let manager = roots.read("run/systemd/container");
    if !manager.is_empty() {
        return Some(manager);
    }
    if roots.exists("run/.containerenv") {
        return Some("podman".into());
    }
    roots.exists(".dockerenv").then(|| "docker".into())
}

fn machine(roots: &Roots) -> Option<String> {
    let cpuinfo = roots.read("proc/cpuinfo");
    if cpuinfo.contains("User Mode Linux") {
        return Some("uml".into());
    }
    // Xen's first domain has the machine.
    if roots.exists("proc/xen") && !roots.read("proc/xen/capabilities").contains("control_d") {
        return Some("xen".into());
    }
    let dmi = |what: &str| roots.read(&format!("sys/class/dmi/id/{what}"));
    let (vendor, product) = (dmi("sys_vendor"), dmi("product_name"));
    if vendor == "Amazon EC2" && product.ends_with(".metal") {
        return None;
    }
    if vendor == "Microsoft Corporation" && product == "Virtual Machine" {
        return Some("microsoft".into());
    }
    let words = [product, vendor, dmi("board_vendor"), dmi("bios_vendor"), dmi("product_version")];
    let known = words.iter().find_map(|word| FIRMWARE.iter().find(|(name, _)| word.starts_with(name)));
    if let Some((_, name)) = known {
        return Some((*name).to_owned());
    }
    let tree = roots.read("proc/device-tree/hypervisor/compatible");
    if !tree.is_empty() {
        return Some(tree.split(['\0', ',']).nth(1).unwrap_or(&tree).to_owned());
    }
    let kind = roots.read("sys/hypervisor/type");
    if !kind.is_empty() {
        return Some(kind);
    }
    let hidden = cpuinfo
        .lines()
        .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor"));
    hidden.then(|| "vm-other".into())
}
