//! Sets the link up, and changes it as its input says.

use std::error::Error;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::thread;

use linkem::LinkParams;

use crate::forward::Direction;
use crate::options::{End, Options, apply_both};
use crate::sys::{self, Tun};

/// Two devices and the threads between them.
pub(crate) struct Wire {
    /// A and B.
    tuns: [Arc<Tun>; 2],
    /// From A to B, and from B to A.
    pub(crate) directions: [Arc<Direction>; 2],
}

impl Wire {
    pub(crate) fn start(ends: &[End; 2], params: [LinkParams; 2]) -> io::Result<Self> {
        let open = |end: &End| {
            Tun::make(end)
                .map(Arc::new)
                .map_err(|error| io::Error::other(format!("device {}: {error}", end.device)))
        };
        let tuns = [open(&ends[0])?, open(&ends[1])?];
        let [there, back] = params;
        let directions =
            [Direction::new("a->b", there), Direction::new("b->a", back)].map(Arc::new);
        for (index, direction) in directions.iter().enumerate() {
            let direction = direction.clone();
            let (from, to) = (tuns[index].clone(), tuns[1 - index].clone());
            thread::spawn(move || direction.run(&from, &to));
        }
        Ok(Self { tuns, directions })
    }

    fn report(&self) -> String {
        let parts = [0, 1].map(|index| {
            let direction = &self.directions[index];
            format!("\"{}\":{}", direction.name, direction.report(self.tuns[index].unread()))
        });
        format!("{{{}}}", parts.join(","))
    }

    /// Does what a line says; the answer.
    fn obey(&self, line: &str) -> Result<String, Box<dyn Error>> {
        let (who, spec) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let mut params = self.directions.each_ref().map(|direction| direction.params());
        match who {
            "report" => return Ok(self.report()),
            "both" => apply_both(&mut params, spec)?,
            "a->b" => params[0].apply(spec)?,
            "b->a" => params[1].apply(spec)?,
            _ => return Err(format!("`{who}` is none of: both, a->b, b->a, report").into()),
        }
        for (direction, params) in self.directions.iter().zip(params) {
            direction.change(params);
        }
        Ok(format!("{{\"a->b\":\"{}\",\"b->a\":\"{}\"}}", params[0], params[1]))
    }
}

/// Carries packets until the input ends or somebody asks for the end.
pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    // Before there are threads, for they inherit it.
    let termination = sys::termination()?;
    let wire = Wire::start(&options.ends, options.params)?;
    say("{\"ready\":true}")?;
    let mut input = Vec::new();
    while !sys::wait_for_input_or(&termination) {
        let mut chunk = [0; 4096];
        let size = io::stdin().lock().read(&mut chunk)?;
        if size == 0 {
            break;
        }
        input.extend_from_slice(&chunk[..size]);
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            match wire.obey(line.trim()) {
                Ok(answer) => say(&answer)?,
                Err(error) => say(&format!("{{\"error\":{:?}}}", error.to_string()))?,
            }
        }
    }
    // Whoever wanted to know may be gone.
    let _ = say(&wire.report());
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
