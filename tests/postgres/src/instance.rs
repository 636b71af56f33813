//! [`Postgres`]: one instance, from `initdb` to its end.

use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Far more than a start takes, also after a crash on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What differs from a usual instance.
#[derive(Debug, Default)]
pub struct Options {
    /// Where its folder is made; `/tmp` where absent. A benchmark wants a disk that really syncs.
    pub parent: Option<PathBuf>,
    /// Lines of `postgresql.conf`.
    pub settings: Vec<String>,
    /// Lines at the head of `pg_hba.conf`; behind them everybody on loopback is trusted.
    pub hba: Vec<String>,
    /// Files in the data folder, readable by the instance alone.
    pub files: Vec<(String, String)>,
}

/// A running PostgreSQL, superuser `lattice`, database `lattice`.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    /// A fresh one.
    ///
    /// # Panics
    /// When it does not start, with its log.
    pub fn start() -> Self {
        Self::with(&Options::default())
    }

    /// A fresh one that differs from the usual.
    ///
    /// # Panics
    /// When it does not start, with its log.
    pub fn with(options: &Options) -> Self {
        let parent = options.parent.as_deref().unwrap_or(Path::new("/tmp"));
        let folder = tempfile::Builder::new().prefix("lp-").tempdir_in(parent).expect("a folder of its own");
        if let Some(user) = other_user() {
            let owner = format!("{user}:");
            run(Command::new("chown").arg(owner).arg(folder.path()));
        }
        let data = folder.path().join("data");
        let mut init = command("initdb");
        init.args(["--username=lattice", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        run(init.arg("--no-instructions").arg("-D").arg(&data));
        let mut instance = Self { folder, port: free_port(), process: None };
        let mut config = fs::read_to_string(data.join("postgresql.conf")).expect("postgresql.conf");
        config.push_str("\nlisten_addresses = '127.0.0.1'\nmax_connections = 100\nshared_buffers = 64MB\n");
        config.push_str("fsync = on\nsynchronous_commit = on\nlogging_collector = off\n");
        config.push_str(&options.settings.join("\n"));
        config.push('\n');
        let hba =
            format!("{}\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n", options.hba.join("\n"));
        instance.file("postgresql.conf", &config);
        instance.file("pg_hba.conf", &hba);
        for (name, text) in &options.files {
            instance.file(name, text);
        }
        instance.launch();
        instance.sql("postgres", "CREATE DATABASE lattice");
        instance
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// How to connect to its database.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The same through something that listens elsewhere.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://lattice@{address}/lattice")
    }

    /// The same by its Unix socket, which also who is in another network namespace reaches.
    pub fn socket_url(&self) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://lattice@{folder}:{}/lattice", self.port)
    }

    /// The folder with its sockets, logs and data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `psql` prints for a statement, as superuser.
    ///
    /// # Panics
    /// When the statement fails.
    pub fn sql(&self, database: &str, text: &str) -> String {
        let mut psql = command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "lattice", "-h", "127.0.0.1"]);
        psql.args(["-p", &self.port.to_string(), "-d", database, "-c", text]);
        run(&mut psql)
    }

    /// kill -9, all of it at once.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let main = pid(&process);
        // Its processes are in sessions of their own, so there is no group to kill.
        let children = children(main);
        for pid in std::iter::once(main).chain(children) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = process.wait();
    }

    /// Starts it again, after [`Postgres::kill`] with its recovery; running, it is stopped first.
    ///
    /// # Panics
    /// When it does not start, with its log.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // SIGINT is PostgreSQL's fast shutdown.
        let _ = kill_process(pid(&process), Signal::INT);
        let _ = process.wait();
    }

    /// Writes a file in the data folder.
    ///
    /// # Panics
    /// When that fails.
    pub fn file(&self, name: &str, text: &str) {
        let path = self.folder.path().join("data").join(name);
        fs::write(&path, text).expect("a file in the data folder");
        if let Some(user) = other_user() {
            run(Command::new("chown").arg(format!("{user}:")).arg(&path));
        }
        run(Command::new("chmod").arg("600").arg(&path));
    }

    fn launch(&mut self) {
        let log = self.folder.path().join("log");
        let begun = Instant::now();
        loop {
            let file = fs::File::options().create(true).append(true).open(&log).expect("the log");
            let mut server = command("postgres");
            server.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
            server.args(["-p", &self.port.to_string()]).stdin(Stdio::null());
            server.stdout(file.try_clone().expect("the log")).stderr(file);
            let mut process = server.spawn().expect("postgres starts");
            while process.try_wait().expect("its state").is_none() {
                if self.answers() {
                    self.process = Some(process);
                    return;
                }
                assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start:\n{}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            // The port was taken, or processes of one that was killed still go.
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL ends at once:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn answers(&self) -> bool {
        let mut ready = command("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-U", "lattice", "-p", &self.port.to_string()]);
        ready.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.is_some() {
            // Nothing of it is needed any more, so it need not be asked.
            self.kill();
        }
    }
}

fn pid(process: &Child) -> Pid {
    // A child's id is positive and fits.
    Pid::from_raw(i32::try_from(process.id()).expect("a process id")).expect("a process id")
}

fn children(of: Pid) -> Vec<Pid> {
    let of = of.as_raw_nonzero().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in brackets, which may hold anything: state, parent.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(of.as_str())
    })
    .filter_map(Pid::from_raw)
    .collect()
}

/// The user that PostgreSQL runs as, where this one is root.
fn other_user() -> Option<&'static str> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let there = |name: &&str| passwd.lines().any(|line| line.starts_with(&format!("{name}:")));
    geteuid().is_root().then(|| ["postgres", "nobody"].into_iter().find(there)).flatten()
}

/// A program of PostgreSQL that ends with this process.
fn command(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = other_user() {
        command.args(["--reuid", user, "--regid", user_group(user), "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program(name));
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command
}

fn user_group(user: &str) -> &str {
    if user == "nobody" { "nogroup" } else { user }
}

/// `LATTICE_TEST_POSTGRES_BIN`, else the newest of Debian's, else what the path has.
fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("LATTICE_TEST_POSTGRES_BIN") {
        return Path::new(&folder).join(name);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let number = |path: &Path| path.file_name().and_then(OsStr::to_str)?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin").join(name).is_file())
        .max_by_key(|path| number(path));
    newest.map_or_else(|| name.into(), |path| path.join("bin").join(name))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
    listener.local_addr().expect("its address").port()
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{command:?} cannot be started ({error}); `scripts/deps.sh test` installs what the tests need")
    });
    assert!(
        output.status.success(),
        "{command:?} failed ({}):\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
