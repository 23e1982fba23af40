#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilot_agent_fuzz::punch(data));
