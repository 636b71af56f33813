//! A registry on loopback, just large enough for one image: `team/app:1`. Engines speak plain
//! HTTP to loopback. `private/…` wants a login, everything else is unknown.

use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub(crate) struct Registry {
    pub(crate) address: String,
    server: tokio::task::JoinHandle<()>,
}

struct Image {
    manifest: String,
    blobs: Vec<(String, Vec<u8>)>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tar archive with one file, whose content is `bytes`.
fn tar(bytes: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..4].copy_from_slice(b"file");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().div_ceil(512) * 512 + 1024, 0);
    archive
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Of its own for each registry, so that no engine has the layer already.
        let mut content = format!("{address} {:?}", std::time::SystemTime::now()).into_bytes();
        // Large enough that engines find it worth telling how far they are.
        content.resize(8 << 20, 0);
        let layer = tar(&content);
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        })
        .to_string()
        .into_bytes();
        let part = |media: &str, bytes: &[u8]| {
            let media = format!("application/vnd.docker.{media}");
            serde_json::json!({"mediaType": media, "size": bytes.len(), "digest": digest(bytes)})
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("container.image.v1+json", &config),
            "layers": [part("image.rootfs.diff.tar.gzip", &layer)],
        });
        let blobs = vec![(digest(&layer), layer), (digest(&config), config)];
        let image = Arc::new(Image { manifest: manifest.to_string(), blobs });
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&image)));
            }
        });
        Self { address, server }
    }
}

async fn serve(mut stream: TcpStream, image: Arc<Image>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            // Engines try TLS first, and take a closed connection for a no.
            Ok(0x16) | Err(_) => return,
            Ok(byte) => request.push(byte),
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let mut words = text.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let by_digest = |path: &str| image.blobs.iter().find(|(digest, _)| path.ends_with(digest.as_str()));
    let manifest_digest = digest(image.manifest.as_bytes());
    let error = |code: &str| {
        serde_json::json!({"errors": [{"code": code, "message": code}]}).to_string().into_bytes()
    };
    let (status, kind, body) = if path == "/v2/" {
        ("200 OK", "application/json", b"{}".to_vec())
    } else if path.starts_with("/v2/private/") {
        ("401 Unauthorized", "application/json", error("UNAUTHORIZED"))
    } else if path == "/v2/team/app/manifests/1"
        || path == format!("/v2/team/app/manifests/{manifest_digest}")
    {
        ("200 OK", MANIFEST, image.manifest.clone().into_bytes())
    } else if let Some((_, bytes)) = by_digest(path) {
        ("200 OK", "application/octet-stream", bytes.clone())
    } else {
        ("404 Not Found", "application/json", error("MANIFEST_UNKNOWN"))
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(&body)
    );
    let _ = stream.write_all(head.as_bytes()).await;
    if method != "HEAD" {
        let _ = stream.write_all(&body).await;
    }
    let _ = stream.shutdown().await;
}
