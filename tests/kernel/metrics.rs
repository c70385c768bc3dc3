//! `xlatd metrics`: read by promtool and Prometheus, and served beside clients that stall.

use std::{
    env,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
};

use nix::sys::signal::Signal;

use crate::{
    control::wait_for_socket,
    harness::{
        CONFIG, DEADLINE, Daemon, Directory, Net, Netns, SERVER6, daemon, skip, wait_for,
        xlatd_case,
    },
};

/// Where metrics are served, and where Prometheus answers.
const METRICS: &str = "127.0.0.1:10464";
const PROMETHEUS: &str = "127.0.0.1:9090";

/// A program of Debian's prometheus package: beside `PROMETHEUS` of the environment, or where the
/// package has it. Where there is none, the test is left out.
fn prometheus(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PROMETHEUS").unwrap_or_else(|| "/usr/bin/prometheus".into());
    let path = PathBuf::from(path).with_file_name(program);
    if !path.exists() {
        skip(&format!("there is no {}", path.display()));
        return None;
    }
    Some(path)
}

/// Starts the translator, with its control socket in this directory.
fn translate(net: &Net, runtime: &Directory) -> Daemon {
    net.xlat.ip("tuntap add dev nat64 mode tun");
    net.route_to_device();
    let environment = format!("RUNTIME_DIRECTORY={}", directory(runtime));
    let daemon = Daemon::start_by(&["env", &environment], &net.xlat, CONFIG);
    net.wait_for_daemon();
    wait_for_socket(&runtime.file("nat64.sock"));
    daemon
}

fn directory(runtime: &Directory) -> String {
    runtime
        .file("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned()
}

/// The command `xlatd metrics` with these arguments, for daemons with sockets in this directory.
fn command(runtime: &Directory, arguments: &str) -> String {
    let (directory, xlatd) = (directory(runtime), daemon());
    let xlatd = xlatd.display();
    format!("env RUNTIME_DIRECTORY={directory} {xlatd} metrics {arguments}")
}

/// Serves metrics, and waits until they are served.
fn serve(net: &Net, runtime: &Directory) -> Daemon {
    let exporter =
        Daemon::start_command(&net.xlat, &command(runtime, &format!("--listen {METRICS}")));
    wait_for("metrics to be served", || {
        net.xlat.inside(|| TcpStream::connect(METRICS)).ok()
    });
    exporter
}

fn curl(net: &Net, arguments: &str) -> String {
    net.xlat.run(&format!(
        "curl --silent --show-error --noproxy * --max-time 5 {arguments}"
    ))
}

/// The value of a sample, by its name and labels.
fn value(text: &str, sample: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines.find_map(|(found, value)| (found == sample).then(|| value.parse().unwrap()))
}

/// The text for the textfile collector has nothing that promtool complains about, with a
/// translator, a CLAT and one that has crashed.
#[test]
fn promtool_has_no_complaint() {
    xlatd_case(|net| {
        let Some(promtool) = prometheus("promtool") else {
            return;
        };
        let runtime = Directory::new();
        let _translator = translate(net, &runtime);
        let host = Netns::new().unwrap();
        let clat = Daemon::start_clat(&host, &runtime, "");
        wait_for_socket(&runtime.file("clat.sock"));
        let text = net.xlat.run(&command(&runtime, ""));
        for (sample, expected) in [
            ("xlatd_daemons", 2),
            ("xlatd_up{device=\"nat64\"}", 1),
            ("xlatd_works{device=\"nat64\"}", 1),
            ("xlatd_up{device=\"clat\"}", 1),
            ("xlatd_works{device=\"clat\"}", 0),
            ("xlatd_clat_failed{device=\"clat\"}", 0),
        ] {
            assert_eq!(value(&text, sample), Some(expected), "{sample}\n{text}");
        }

        clat.signal(Signal::SIGKILL);
        drop(clat);
        let text = net.xlat.run(&command(&runtime, ""));
        assert_eq!(value(&text, "xlatd_up{device=\"clat\"}"), Some(0), "{text}");
        let file = runtime.file("xlatd.prom");
        fs::write(&file, &text).unwrap();
        let mut check = Command::new(promtool);
        check
            .args(["check", "metrics"])
            .stdin(File::open(&file).unwrap());
        let output = check.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{text}");
    });
}

/// Where nothing runs, that is said, and it is no failure.
#[test]
fn nothing_that_runs_is_said() {
    xlatd_case(|net| {
        let runtime = Directory::new();
        for arguments in ["", "--openmetrics"] {
            let text = net.xlat.run(&command(&runtime, arguments));
            assert_eq!(value(&text, "xlatd_daemons"), Some(0), "{text}");
        }
        let text = net.xlat.run(&command(&runtime, "nat64"));
        assert_eq!(
            value(&text, "xlatd_up{device=\"nat64\"}"),
            Some(0),
            "{text}"
        );
    });
}

/// A Prometheus scrapes, and answers what has crossed: by the OpenMetrics format, which it prefers
/// and takes strictly.
#[test]
fn prometheus_scrapes() {
    xlatd_case(|net| {
        let Some(prometheus) = prometheus("prometheus") else {
            return;
        };
        let runtime = Directory::new();
        let _daemon = translate(net, &runtime);
        let _exporter = serve(net, &runtime);
        let file = runtime.file("prometheus.yml");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs:\n\
             - {{job_name: xlatd, static_configs: [{{targets: ['{METRICS}']}}]}}\n"
        );
        fs::write(&file, config).unwrap();
        let server = Daemon::start_command(
            &net.xlat,
            &format!(
                "{} --config.file={} --storage.tsdb.path={} --web.listen-address={PROMETHEUS}",
                prometheus.display(),
                file.display(),
                runtime.file("tsdb").display(),
            ),
        );
        let query = |query: &str| {
            let answer = net.xlat.output(&format!(
                "curl --silent --noproxy * --max-time 5 --get --data-urlencode query={query} \
                 http://{PROMETHEUS}/api/v1/query"
            ));
            let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).ok()?;
            let value = &answer["data"]["result"][0]["value"][1];
            value.as_str()?.parse::<u64>().ok()
        };
        let counter = "xlatd_packets_translated_total{device=\"nat64\",direction=\"6to4\"}";
        wait_for("the first scrape", || query(counter));
        assert_eq!(query("up{job=\"xlatd\"}"), Some(1), "{}", server.log());
        net.client.run(&format!("ping -c 3 -i 0.2 -W 5 {SERVER6}"));
        let text = net.xlat.run(&command(&runtime, "--openmetrics"));
        let expected = value(&text, counter).unwrap();
        assert!(expected >= 3, "{text}");
        wait_for("the scrape of what has crossed", || {
            (query(counter)? >= expected).then_some(())
        });
        // The same as a rate: one of what has not occurred, too.
        let dropped = "sum(xlatd_packets_dropped_total{reason=\"pool_full\"})";
        assert_eq!(query(dropped), Some(0));
    });
}

/// RFC 9110: only GET and HEAD of what there is, in the format that is accepted.
#[test]
fn http_has_metrics_alone() {
    xlatd_case(|net| {
        let runtime = Directory::new();
        let _exporter = serve(net, &runtime);
        let open = "--header Accept:application/openmetrics-text";
        for (arguments, expected) in [
            ("/", "200 text/plain;"),
            ("/metrics", "200 text/plain;"),
            (
                &*format!("/metrics {open}"),
                "200 application/openmetrics-text;",
            ),
            ("/other", "404 text/plain;"),
            ("/metrics --head", "200 text/plain;"),
            ("/other --head", "404 text/plain;"),
            ("/metrics --data a=b", "405 text/plain;"),
        ] {
            let write_out = "--output /dev/null --write-out %{http_code}_%{content_type}";
            let said = curl(net, &format!("{write_out} http://{METRICS}{arguments}"));
            let said = said.replacen('_', " ", 1);
            assert!(said.starts_with(expected), "{arguments}: {said}");
        }
        assert!(curl(net, &format!("http://{METRICS}/")).contains("/metrics"));
        let text = curl(net, &format!("{open} http://{METRICS}/metrics"));
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    });
}

/// More connections than there is room for, which send nothing, or half of a request, or do not
/// read the answer, keep no good scrape from its answer, and take no more memory than as many as
/// there is room for.
#[test]
fn clients_that_stall_keep_nobody_waiting() {
    const STALLED: usize = 400;
    xlatd_case(|net| {
        let runtime = Directory::new();
        let _daemon = translate(net, &runtime);
        let exporter = serve(net, &runtime);
        // Of its sockets one listens.
        let connections = || {
            let fds = fs::read_dir(format!("/proc/{}/fd", exporter.pid())).unwrap();
            let targets = fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
            let sockets = targets.filter(|target| target.to_string_lossy().starts_with("socket:"));
            sockets.count() - 1
        };
        wait_for("the first client to be gone", || {
            (connections() == 0).then_some(())
        });
        let address: SocketAddr = METRICS.parse().unwrap();
        let stalled: Vec<_> = net.xlat.inside(|| {
            let connections = (0..STALLED).map(|at| {
                let mut stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
                let sent: &[u8] = match at % 3 {
                    0 => b"",
                    1 => b"GET /metrics HTTP/1.1\r\nHost: a\r\n",
                    _ => b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                };
                stream.write_all(sent).unwrap();
                stream
            });
            connections.collect()
        });
        wait_for("clients to be taken", || {
            (connections() > 100).then_some(())
        });
        for _ in 0..3 {
            let text = curl(net, &format!("http://{METRICS}/metrics"));
            assert_eq!(
                value(&text, "xlatd_up{device=\"nat64\"}"),
                Some(1),
                "{text}"
            );
            assert!(connections() <= 256);
        }
        let memory = exporter.status("VmRSS");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 16 << 10, "{memory}");

        // Those that did send a request have an answer, and those that did not are closed.
        let mut answered = 0;
        for (at, mut stream) in stalled.into_iter().enumerate() {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut text = String::new();
            let read = stream.read_to_string(&mut text);
            if at % 3 == 2 {
                answered += usize::from(text.starts_with("HTTP/1.1 200 "));
            } else {
                assert!(text.is_empty(), "{at}: {read:?} {text}");
            }
        }
        assert_eq!(answered, STALLED / 3);
        wait_for("clients to be closed", || {
            (connections() == 0).then_some(())
        });
    });
}
