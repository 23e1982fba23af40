//! The command line.

use std::error::Error;
use std::fs::File;
use std::net::Ipv4Addr;

use linkem::LinkParams;

pub(crate) const USAGE: &str = "\
usage: linkem --a END --b END [--both SPEC] [--ab SPEC] [--ba SPEC]
       linkem ceiling

A link between two network namespaces: a TUN device in each, and what SPEC says in between.
END is NAMESPACE,dev=NAME[,addr=ADDRESS/PREFIX][,mtu=BYTES] with the path of a namespace:
/run/netns/x or /proc/PID/ns/net. SPEC is like rate=100mbit,queue=250kB,delay=10ms,jitter=500us,
loss=1%,seed=7; losses in bursts of eight packets are loss=1%/8; also duplicate, reorder, corrupt,
mtu, keep-order, dead-after, down.

Prints {\"ready\":true}, then answers each line of its input with a line of JSON:
  both SPEC, a->b SPEC, b->a SPEC   changes what SPEC names, for packets sent from now on
  report                            what has happened so far
It ends with its input, or by SIGTERM, with a last report.

ceiling measures how many packets a link without limits carries between two namespaces here.";

/// One end: a device that is to be made.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) namespace: File,
    pub(crate) device: String,
    pub(crate) address: Option<(Ipv4Addr, u8)>,
    pub(crate) mtu: u32,
}

impl End {
    fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let mut parts = text.split(',');
        let path = parts.next().unwrap_or_default();
        let namespace = File::open(path).map_err(|error| format!("namespace {path}: {error}"))?;
        let mut end = Self { namespace, device: String::new(), address: None, mtu: 1500 };
        for part in parts {
            match part.split_once('=') {
                Some(("dev", name)) => end.device = name.to_owned(),
                Some(("mtu", bytes)) => end.mtu = bytes.parse()?,
                Some(("addr", text)) => {
                    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
                    end.address = Some((address.parse()?, prefix.parse()?));
                }
                _ => return Err(format!("`{part}` is not part of an end").into()),
            }
        }
        if end.device.is_empty() {
            return Err(format!("`{text}` names no device: dev=NAME").into());
        }
        Ok(end)
    }
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// A and B.
    pub(crate) ends: [End; 2],
    /// From A to B, and from B to A.
    pub(crate) params: [LinkParams; 2],
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let (mut a, mut b) = (None, None);
        let mut params = [LinkParams::default(); 2];
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("`{}` needs a value\n{USAGE}", pair[0]).into());
            };
            match name.as_str() {
                "--a" => a = Some(End::parse(value)?),
                "--b" => b = Some(End::parse(value)?),
                "--both" => apply_both(&mut params, value)?,
                "--ab" => params[0].apply(value)?,
                "--ba" => params[1].apply(value)?,
                _ => return Err(format!("unknown option `{name}`\n{USAGE}").into()),
            }
        }
        let ends = [a.ok_or("--a is missing")?, b.ok_or("--b is missing")?];
        Ok(Self { ends, params })
    }
}

/// The same both ways, but a seed makes two different ones.
pub(crate) fn apply_both(params: &mut [LinkParams; 2], spec: &str) -> Result<(), Box<dyn Error>> {
    let mut changed = *params;
    changed[0].apply(spec)?;
    changed[1].apply(spec)?;
    if changed[1].seed != params[1].seed {
        changed[1] = changed[1].for_way_back();
    }
    *params = changed;
    Ok(())
}
