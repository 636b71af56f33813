//! Images that travel without a registry.

use crate::{
    client::{Client, NO_QUERY},
    error::{ClientError, refusal},
    stream::{BuildStream, Open},
};
use bytes::Bytes;
use futures::Stream;
use hyper::Method;
use lattice_api::{BuildStart, ImageView, LayerView, List, paths};
use lattice_model::{ProjectName, spec::ImageDigest};
use std::io;

impl Client {
    /// The images that a project uploaded.
    pub async fn images(&self, project: &ProjectName) -> Result<List<ImageView>, ClientError> {
        self.get(&paths::images(project), NO_QUERY).await
    }

    /// An image that a project uploaded and that is wholly there, by its id.
    pub async fn image(
        &self,
        project: &ProjectName,
        id: ImageDigest,
    ) -> Result<Option<ImageView>, ClientError> {
        match self.get(&paths::image(project, id), NO_QUERY).await {
            Ok(view) => Ok(Some(view)),
            Err(ClientError::Api(error)) if error.code == lattice_api::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a project has a layer.
    pub async fn has_layer(&self, project: &ProjectName, digest: ImageDigest) -> Result<bool, ClientError> {
        let path = paths::layer(project, digest);
        let (response, _connection) = self.exchange(Method::HEAD, &path, None, Bytes::new()).await?;
        // An answer to HEAD has no body, so a refusal is its status alone.
        match response.status().as_u16() {
            200..300 => Ok(true),
            404 => Ok(false),
            status => Err(refusal(status, b"")),
        }
    }

    /// Uploads a layer: one frame of zstd that states its size. Takes as long as the network needs.
    pub async fn put_layer(
        &self,
        project: &ProjectName,
        digest: ImageDigest,
        frame: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<LayerView, ClientError> {
        let path = paths::layer(project, digest);
        let (response, _connection) = self.send_stream(&path, "application/zstd", frame).await?;
        self.read(response).await
    }

    /// Builds an image on a node, of a tree that is uploaded.
    pub async fn build(&self, project: &ProjectName, start: &BuildStart) -> Result<BuildStream, ClientError> {
        let body = serde_json::to_vec(start).map_err(|error| ClientError::json(&error))?;
        let path = paths::builds(project);
        let (response, connection) =
            self.send(Method::POST, &path, Some("application/json"), body.into()).await?;
        Ok(BuildStream::new(Open { body: response.into_body(), _connection: connection }))
    }

    /// Takes in an image whose layers are uploaded, by its configuration.
    pub async fn put_image(
        &self,
        project: &ProjectName,
        id: ImageDigest,
        config: Vec<u8>,
    ) -> Result<ImageView, ClientError> {
        let path = paths::image(project, id);
        let (response, _connection) =
            self.send(Method::PUT, &path, Some("application/octet-stream"), config.into()).await?;
        self.read(response).await
    }
}
