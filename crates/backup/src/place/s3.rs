//! A bucket of an S3-compatible store. rusty-s3 signs and parses; [`Http`] carries.
//!
//! What fits into one part is put at once, the rest by a multi-part upload: either way an object is there
//! whole or not at all. Names have 48 random bits, so nothing is overwritten; conditional writes, which say
//! the same, are not known to every store.

use super::{
    Object, PlaceOptions,
    http::{Http, STANDSTILL, refused},
};
use crate::{BackupError, PipeReader, PipeWriter};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Method, header};
use rusty_s3::{
    Bucket, Credentials, S3Action, UrlStyle,
    actions::{
        AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, DeleteObject, GetObject,
        ListObjectsV2, PutObject, UploadPart,
    },
};
use std::{fmt, time::Duration};
use tokio::time::timeout;
use url::Url;

/// The size of a part in bytes; 10,000 of them may be.
const PART: usize = 8 << 20;
/// How long a signed request is good.
const SIGNED: Duration = Duration::from_secs(900);

/// A bucket with a prefix.
#[derive(Clone)]
pub struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    /// Empty, or with a slash at its end.
    prefix: String,
    http: Http,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({self})")
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket.name(), self.prefix)
    }
}

impl S3 {
    /// Reads `BUCKET/PREFIX`.
    pub(super) fn open(text: &str, options: &PlaceOptions) -> Result<Self, BackupError> {
        let fail = |problem: String| BackupError::Place { text: format!("s3://{text}"), problem };
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        if bucket.is_empty() || bucket.contains(['?', '@', ' ']) || prefix.contains(['?', '#']) {
            return Err(fail("it names no bucket".into()));
        }
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let region =
            options.region.clone().or_else(|| env("AWS_REGION")).unwrap_or_else(|| "us-east-1".into());
        let endpoint = options.endpoint.clone().or_else(|| env("AWS_ENDPOINT_URL"));
        // Names of buckets in host names are Amazon's way; elsewhere the path always works.
        let (endpoint, style) = match endpoint {
            Some(endpoint) => (endpoint, UrlStyle::Path),
            None => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
        };
        let url: Url = endpoint.parse().map_err(|error| fail(format!("its endpoint is no URL: {error}")))?;
        let plain = url.scheme() == "http";
        let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if plain && !loopback {
            tracing::warn!(%endpoint, "the object store is reached without TLS: backups are encrypted, credentials sign and do not travel, and who listens sees names and sizes");
        }
        let bucket = Bucket::new(url, style, bucket.to_owned(), region)
            .map_err(|error| fail(format!("its endpoint does not work: {error}")))?;
        let credentials = match &options.credentials_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(BackupError::file("read", path))?;
                credentials(|name| {
                    let mut lines = text.lines().filter_map(|line| line.trim().split_once('='));
                    let value = lines.find(|(key, _)| key.trim_start_matches("export ").trim() == name)?.1;
                    Some(value.trim().trim_matches(['"', '\'']).to_owned())
                })
            }
            None => credentials(env),
        };
        let credentials = credentials.ok_or(BackupError::NoCredentials)?;
        Ok(Self { bucket, credentials, prefix, http: Http::new()? })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) async fn objects(&self) -> Result<Vec<Object>, BackupError> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut action = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
            action.with_prefix(self.key(crate::format::PREFIX));
            if let Some(token) = &next {
                action.with_continuation_token(token.clone());
            }
            let (_, text) =
                self.ask(Method::GET, &action.sign(SIGNED), Bytes::new(), "list the bucket").await?;
            let page = ListObjectsV2::parse_response(&text).map_err(|error| {
                refused("list the bucket", 200, &format!("an answer that cannot be read: {error}"))
            })?;
            found.extend(page.contents.into_iter().filter_map(|object| {
                let name = object.key.strip_prefix(&self.prefix)?.to_owned();
                (!name.contains('/')).then_some(Object { name, bytes: object.size.unwrap_or(0) })
            }));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    pub(super) async fn put(&self, name: &str, mut from: PipeReader) -> Result<(), BackupError> {
        let key = self.key(name);
        let (first, more) = part(&mut from).await?;
        if !more {
            let url = PutObject::new(&self.bucket, Some(&self.credentials), &key).sign(SIGNED);
            return self.ask(Method::PUT, &url, first, "store an object").await.map(drop);
        }
        let url = CreateMultipartUpload::new(&self.bucket, Some(&self.credentials), &key).sign(SIGNED);
        let (_, text) = self.ask(Method::POST, &url, Bytes::new(), "begin an upload").await?;
        let begun = CreateMultipartUpload::parse_response(&text).map_err(|error| {
            refused("begin an upload", 200, &format!("an answer that cannot be read: {error}"))
        })?;
        let upload = begun.upload_id();
        let sent = self.parts(&key, upload, first, from).await;
        if sent.is_err() {
            // Otherwise its parts lie there, unseen and paid for.
            let url =
                AbortMultipartUpload::new(&self.bucket, Some(&self.credentials), &key, upload).sign(SIGNED);
            if let Err(error) = self.ask(Method::DELETE, &url, Bytes::new(), "give an upload up").await {
                tracing::warn!(%error, "an upload that failed was not taken back");
            }
        }
        sent
    }

    async fn parts(
        &self,
        key: &str,
        upload: &str,
        first: Bytes,
        mut from: PipeReader,
    ) -> Result<(), BackupError> {
        let credentials = Some(&self.credentials);
        let mut etags: Vec<String> = Vec::new();
        let (mut body, mut more) = (first, true);
        loop {
            let number = u16::try_from(etags.len() + 1).unwrap_or(u16::MAX);
            let url = UploadPart::new(&self.bucket, credentials, key, number, upload).sign(SIGNED);
            let (headers, _) = self.ask(Method::PUT, &url, body, "store a part").await?;
            let etag = headers.get(header::ETAG).and_then(|value| value.to_str().ok());
            let etag = etag.ok_or_else(|| refused("store a part", 200, "an answer without an ETag"))?;
            etags.push(etag.to_owned());
            if !more {
                break;
            }
            (body, more) = part(&mut from).await?;
            if body.is_empty() {
                break;
            }
        }
        let action = CompleteMultipartUpload::new(
            &self.bucket,
            credentials,
            key,
            upload,
            etags.iter().map(String::as_str),
        );
        let url = action.sign(SIGNED);
        self.ask(Method::POST, &url, action.body().into(), "complete an upload").await.map(drop)
    }

    pub(super) async fn get(&self, name: &str, into: PipeWriter) -> Result<(), BackupError> {
        let fetched = self.fetch(name, &into).await;
        match &fetched {
            Ok(()) => into.finish().await,
            Err(error) => {
                into.give_up(&error.to_string()).await;
                fetched
            }
        }
    }

    async fn fetch(&self, name: &str, into: &PipeWriter) -> Result<(), BackupError> {
        let key = self.key(name);
        let url = GetObject::new(&self.bucket, Some(&self.credentials), &key).sign(SIGNED);
        let mut answer = self.http.send(Method::GET, &url, Bytes::new()).await?;
        if !answer.response.status().is_success() {
            return Err(answer.text("read an object").await.err().unwrap_or(BackupError::Stopped));
        }
        let body = answer.response.body_mut();
        let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        while let Some(frame) =
            timeout(STANDSTILL, body.frame()).await.map_err(|_| BackupError::io("read")(late()))?
        {
            let frame = frame.map_err(|error| BackupError::io("read")(std::io::Error::other(error)))?;
            if let Ok(data) = frame.into_data() {
                into.feed(data).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), BackupError> {
        let key = self.key(name);
        let url = DeleteObject::new(&self.bucket, Some(&self.credentials), &key).sign(SIGNED);
        match self.ask(Method::DELETE, &url, Bytes::new(), "delete an object").await {
            Err(BackupError::Refused { status: 404, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        body: Bytes,
        action: &'static str,
    ) -> Result<(hyper::HeaderMap, String), BackupError> {
        self.http.send(method, url, body).await?.text(action).await
    }
}

/// The next part, and whether there may be more.
async fn part(from: &mut PipeReader) -> Result<(Bytes, bool), BackupError> {
    let mut body = BytesMut::new();
    while body.len() < PART {
        match from.next().await? {
            Some(bytes) => body.extend_from_slice(&bytes),
            None => return Ok((body.freeze(), false)),
        }
    }
    Ok((body.freeze(), true))
}

fn credentials(value: impl Fn(&str) -> Option<String>) -> Option<Credentials> {
    let (key, secret) = (value("AWS_ACCESS_KEY_ID")?, value("AWS_SECRET_ACCESS_KEY")?);
    Some(match value("AWS_SESSION_TOKEN") {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    })
}
