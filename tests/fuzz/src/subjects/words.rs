//! Every hand-written parser of a word: what it takes, it writes such that it takes it again as the same.

use crate::{Draw, Subject, json, text};
use lattice_identity::{Cidr, Fingerprint, ServerAddress, UserCode};
use lattice_link::client::{Address, Proxy};
use lattice_model::{
    AllocationId, Binding, BitRate, Bytes, Cpu, NodeName, PoolName, ProjectName, Role, SecretName, StackKey,
    StackName, UserName, VolumeKey, VolumeName, WorkloadKey, WorkloadName,
    spec::{Constraint, NodeAttribute, TreeDigest},
};
use serde::{Deserialize, Serialize};
use std::{fmt::Display, str::FromStr};

/// A word.
#[derive(Debug, Serialize, Deserialize)]
pub struct Word(String);

const SEEDS: &[&str] = &[
    "lattice.example.org:7443",
    "[2001:db8::1]:7443",
    "10.0.0.0/8",
    "2001:db8::/32",
    "default/shop/web",
    "default/shop",
    "developer@project/shop",
    "operator@pool/gpu",
    "admin",
    "1.5g",
    "512m",
    "1500m",
    "0.25",
    "100",
    "BCDF-GHJK",
    "http://user:p%40ss@proxy.example:3128",
    "node.labels.zone==a",
    "node.labels.gpu!=true",
    "node.platform.arch == amd64",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "0190a0b0-0000-7000-8000-000000000000",
    "node.region in (eu, us)",
    "node.labels.disk = ssd",
    "node.gpu.memory > 40g",
    "node.engine >= 24.0.7",
    "node.labels.fence does not exist",
    "20Mbit",
    "SHA256:abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJ",
];

impl Subject for Word {
    const NAME: &'static str = "words";

    fn draw(draw: &mut dyn Draw) -> Self {
        let mut word =
            if draw.one_in(3) { json::word(draw) } else { (*draw.of(SEEDS)).to_owned() }.into_bytes();
        let others: Vec<&[u8]> = SEEDS.iter().map(|seed| seed.as_bytes()).collect();
        text::alter(draw, &mut word, &others);
        Self(String::from_utf8_lossy(&word).into_owned())
    }

    fn check(&self) -> Result<(), String> {
        let word = self.0.as_str();
        comes_back::<ServerAddress>(word)?;
        comes_back::<Cidr>(word)?;
        comes_back::<Fingerprint>(word)?;
        comes_back::<UserCode>(word)?;
        comes_back::<Binding>(word)?;
        comes_back::<Role>(word)?;
        // These are shown to people, rounded.
        let _ = (word.parse::<Bytes>(), word.parse::<Cpu>(), word.parse::<BitRate>());
        comes_back::<Constraint>(word)?;
        comes_back::<NodeAttribute>(word)?;
        comes_back::<TreeDigest>(word)?;
        comes_back::<AllocationId>(word)?;
        comes_back::<StackKey>(word)?;
        comes_back::<VolumeKey>(word)?;
        comes_back::<WorkloadKey>(word)?;
        comes_back::<NodeName>(word)?;
        comes_back::<PoolName>(word)?;
        comes_back::<ProjectName>(word)?;
        comes_back::<SecretName>(word)?;
        comes_back::<StackName>(word)?;
        comes_back::<UserName>(word)?;
        comes_back::<VolumeName>(word)?;
        comes_back::<WorkloadName>(word)?;
        let _ = word.parse::<Address>();
        if let Ok(proxy) = word.parse::<Proxy>()
            && let Some((_, password)) =
                word.split_once("//").and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'))
            && password.len() > 5
            && format!("{proxy:?}").contains(password)
        {
            return Err("a proxy shows its password".to_owned());
        }
        Ok(())
    }
}

/// Written and read again it is the same, and written twice it is one text.
fn comes_back<T: FromStr + Display + PartialEq>(word: &str) -> Result<(), String> {
    let Ok(value) = word.parse::<T>() else { return Ok(()) };
    let name = std::any::type_name::<T>();
    let written = value.to_string();
    match written.parse::<T>() {
        Ok(again) if again == value => Ok(()),
        Ok(again) => Err(format!("{name}: {word:?} is written {written:?}, and that is read as {again}")),
        Err(_) => Err(format!("{name}: {word:?} is written {written:?}, and that is refused")),
    }
}
