//! Writes streams of packets as a fuzzer's first inputs: `packets_seeds DIR`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::PathBuf;

use rr_debugger::connection::encode;

const HELLO: &str = "qSupported:multiprocess+;swbreak+;hwbreak+;fork-events+;vfork-events+;exec-events+";

/// Sessions, one a line, packets between blanks.
const SESSIONS: &str = "\
QStartNoAckMode ! ? Hgp0.0 qC qfThreadInfo qsThreadInfo qThreadExtraInfo,p3e8.3e9 qAttached:3e8 Tp3e8.3e9
qXfer:features:read:target.xml:0,ffb qXfer:threads:read::0,1000 qXfer:auxv:read::0,1000 qXfer:siginfo:read::0,80
g p10 P0=0100000000000000 m401000,b x401000,b M402100,2:0a0b X402100,1:z qSearch:memory:401000;1000;%
Z0,401008,1;X7,26000022071327;cmds:0 Z1,401009,1 Z2,402000,8 Z4,402000,1 vCont;c z2,402000,8 c bc bs s
vCont? vCont;s:p3e8.3e8;c:p3e8.-1 vCont;r401000,40100b:p3e8.3e8 vCont;C05 vCont;t Hcp3e8.3e9 s bs
QPassSignals:e;14 QCatchSyscalls:1;27 vCont;c vCont;c D;3e9 ! vKill;3e8 vRun;;37 vCont;c vCont;s vRun;;6331 D
vFile:setfs:0 vFile:open:2f70726f632f313030302f6d617073,0,0 vFile:fstat:3 vFile:pread:3,100,0 vFile:close:3
vFile:readlink:2f70726f632f73656c662f657865 vFile:open:2f6d6f636b2f66696c65,0,0 vFile:pread:3,1000,5 k
qRcmd,7768656e qRRCmd:when:3e8 qRRCmd:checkpoint:-1:61 qRRCmd:rr-next:1000:72756e:39 bc qRRCmd:rr-next:1:6261636b c
qSymbol:: qSymbol:402000:5f7468726561645f64625f707468726561645f64747670 qSymbol::00 qGetTLSAddr:p3e8.3e8,8,402000";

fn main() {
    let out = PathBuf::from(std::env::args_os().nth(1).expect("usage: packets_seeds DIR"));
    std::fs::create_dir_all(&out).unwrap();
    for (n, session) in SESSIONS.lines().enumerate() {
        let packets = std::iter::once(HELLO).chain(session.split(' '));
        let stream: Vec<u8> = packets.flat_map(|packet| encode(packet.as_bytes())).collect();
        std::fs::write(out.join(format!("session-{n}")), stream).unwrap();
    }
    println!("{} seeds in {}", SESSIONS.lines().count(), out.display());
}
