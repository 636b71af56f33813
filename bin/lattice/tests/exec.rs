//! `lattice exec` on a real pseudo-terminal and over pipes, against a small WebSocket server.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use futures::{SinkExt, StreamExt};
use lattice_api::{
    AllocationView, CHANNEL_STDERR, CHANNEL_STDIN, CHANNEL_STDOUT, ExecClientMessage, ExecServerMessage,
    ExecStart, List, TerminalSize, exec_frame,
};
use lattice_model::{
    AllocationId, NodeId, NodeName, Timestamp,
    report::{AllocationState, AllocationStatus},
    resource::Intent,
};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

type Socket = WebSocketStream<UnixStream>;

/// A server that answers the first connection with one allocation and gives the second, an exec
/// session, to `session`. The future ends with what the session ends with.
fn server<F, T>(session: impl FnOnce(ExecStart, Socket) -> F + Send + 'static) -> (TempDir, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("server")).unwrap();
    let listener = UnixListener::bind(home.path().join("server/lattice.sock")).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let body = serde_json::to_string(&List { items: vec![allocation()], revision: 1 }).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let first = socket.next().await.unwrap().unwrap().into_text().unwrap();
        session(serde_json::from_str(&first).unwrap(), socket).await
    });
    (home, task)
}

fn allocation() -> AllocationView {
    AllocationView {
        id: AllocationId::from_random(1),
        project: "default".parse().unwrap(),
        stack: "shop".parse().unwrap(),
        workload: "web".parse().unwrap(),
        slot: 1,
        node_id: NodeId::from_random(1),
        node: NodeName::new("laptop").unwrap(),
        generation: 1,
        restart: 0,
        due: None,
        image: "nginx".into(),
        intent: Intent::Run,
        superseded: None,
        node_lost: false,
        status: AllocationStatus::new(AllocationState::Running),
        gpus: Vec::new(),
        placed_at: Timestamp(0),
        explanation: String::new(),
    }
}

async fn say(socket: &mut Socket, channel: u8, data: &[u8]) {
    socket.send(Message::Binary(exec_frame(channel, data).into())).await.unwrap();
}

async fn end(mut socket: Socket, code: i64) {
    let exit = serde_json::to_string(&ExecServerMessage::Exit { code }).unwrap();
    socket.send(Message::Text(exit.into())).await.unwrap();
    let _ = socket.close(None).await;
}

fn lattice(home: &TempDir, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lattice"));
    command.env("LATTICE_HOME", home.path()).env_remove("LATTICE_SERVER").args(line.split(' '));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn input_output_and_code_pass_through_pipes() {
    let (home, server) = server(|start, mut socket| async move {
        assert_eq!((start.argv.join(" ").as_str(), start.tty, start.stdin), ("cat -n", false, true));
        assert_eq!(start.env["A"], "b");
        let mut read = Vec::new();
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(data) => {
                    assert_eq!(data[0], CHANNEL_STDIN);
                    read.extend_from_slice(&data[1..]);
                }
                Message::Text(json) => {
                    let message: ExecClientMessage = serde_json::from_str(&json).unwrap();
                    assert_eq!(message, ExecClientMessage::StdinClosed);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        say(&mut socket, CHANNEL_STDOUT, &read).await;
        say(&mut socket, CHANNEL_STDERR, b"done\n").await;
        end(socket, 42).await;
    });
    let mut command = lattice(&home, "exec -i -e A=b web cat -n");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\0two").unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"one\0two"[..], &b"done\n"[..]));
    assert_eq!(output.status.code(), Some(42));
    server.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_raw_while_the_command_runs() {
    let (home, server) = server(|start, mut socket| async move {
        assert!(start.tty && start.stdin);
        assert_eq!(start.size, Some(TerminalSize { cols: 100, rows: 30 }));
        say(&mut socket, CHANNEL_STDOUT, b"$ ").await;
        // Ctrl-C is a key like any other.
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(vec![CHANNEL_STDIN, 3].into()));
        say(&mut socket, CHANNEL_STDOUT, b"^C").await;
        let resize = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let size = TerminalSize { cols: 120, rows: 40 };
        assert_eq!(
            serde_json::from_str::<ExecClientMessage>(&resize).unwrap(),
            ExecClientMessage::Resize { size }
        );
        end(socket, 0).await;
    });
    let winsize = |cols, rows| Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let path = std::ffi::OsStr::from_bytes(name.as_bytes()).to_owned();
    let slave = OpenOptions::new().read(true).write(true).open(path).unwrap();
    tcsetwinsize(&slave, winsize(100, 30)).unwrap();
    let is_raw = {
        let slave = slave.try_clone().unwrap();
        move || !tcgetattr(&slave).unwrap().local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON)
    };
    assert!(!is_raw());
    let mut command = lattice(&home, "exec -it web sh");
    let side = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();

    let mut screen = File::from(master);
    let mut shown = [0; 2];
    tokio::task::block_in_place(|| {
        screen.read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"$ ");
        assert!(is_raw());
        screen.write_all(&[3]).unwrap();
        screen.read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"^C");
        tcsetwinsize(&slave, winsize(120, 40)).unwrap();
        // It is not the terminal's session, so the kernel does not tell it.
        kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
    assert!(!is_raw(), "the former mode is back");
    server.await.unwrap();
}
