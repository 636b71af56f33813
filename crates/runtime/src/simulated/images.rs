//! The images of the engine: by name alone, as a program is all that an image is here.

use super::{settings::full, state::State};
use crate::{
    checks::checked,
    error::{Result, RuntimeError},
    port::{ImageResolved, ImageSeen},
};
use lattice_model::{Bytes, spec::ImageDigest};
use std::collections::BTreeSet;

fn seen(name: &str) -> ImageSeen {
    ImageSeen {
        id: ImageDigest::of(name.as_bytes()).to_string(),
        tags: vec![name.to_owned()],
        digests: Vec::new(),
        layers: Vec::new(),
        platform: "linux/amd64".to_owned(),
        size: Bytes::from_mib(1),
    }
}

impl State {
    pub(super) fn images_seen(&self) -> Vec<ImageSeen> {
        self.settings.images.keys().map(|name| seen(name)).collect()
    }

    pub(super) fn image_seen(&self, image: &str) -> Result<Option<ImageSeen>> {
        Ok(self.has_image(image)?.then(|| seen(&full(image))))
    }

    pub(super) fn remove_image(&mut self, image: &str) -> Result<bool> {
        let name = full(checked("image", image)?);
        if self.containers.values().any(|container| full(&container.image) == name) {
            let message = "a container uses it".to_owned();
            return Err(RuntimeError::Conflict { what: format!("image {image}"), message });
        }
        Ok(self.settings.images.remove(&name).is_some())
    }

    pub(super) fn resolve(&self, image: &str) -> Result<ImageResolved> {
        let name = full(checked("image", image)?);
        if !self.settings.registry.contains_key(&name) && self.settings.any_image.is_none() {
            let message = "manifest unknown".to_owned();
            return Err(RuntimeError::ImageMissing { image: image.to_owned(), message });
        }
        Ok(ImageResolved { digest: ImageDigest::of(name.as_bytes()), platforms: BTreeSet::new() })
    }
}
