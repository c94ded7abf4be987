/** The tenants of the installation. */
import { useState } from "preact/hooks";
import { call, callAll } from "../api.ts";
import type { ListedTenant } from "../contract.ts";
import { formatTime } from "../format.ts";
import { usePoll } from "../poll.ts";
import { to } from "../router.ts";
import { Confirm, FormDialog } from "../ui/form_dialog.tsx";
import { Button, Field, Header, Loaded, Table } from "../ui/parts.tsx";

const POLL_MS = 10_000;

export function TenantsPage() {
  const polled = usePoll(() => callAll("tenantList", {}), POLL_MS, "");
  const [asking, setAsking] = useState<"create" | ListedTenant>();
  const close = () => setAsking(undefined);
  return (
    <>
      <Header title="Tenants" about="Each has branches, roles and data of its own; none sees another's.">
        <Button kind="primary" onClick={() => setAsking("create")}>New tenant</Button>
      </Header>
      <Loaded polled={polled} what="tenants">
        {(items) => (
          <Table
            label="Tenants"
            head={
              <>
                <th scope="col">Name</th>
                <th scope="col">Id</th>
                <th scope="col">Known since</th>
                <th scope="col">
                  <span class="visually-hidden">Actions</span>
                </th>
              </>
            }
          >
            {items.map((tenant) => (
              <tr key={tenant.id}>
                <td>
                  <a href={to.timeLine(tenant.id)}>
                    {tenant.name === tenant.id ? "no name" : tenant.name}
                  </a>
                </td>
                <td class="mono">{tenant.id}</td>
                <td>{formatTime(Date.parse(tenant.created_at))}</td>
                <td class="is-number">
                  <Button
                    kind="quiet"
                    label={`Delete ${tenant.name}`}
                    onClick={() => setAsking(tenant)}
                  >
                    Delete …
                  </Button>
                </td>
              </tr>
            ))}
          </Table>
        )}
      </Loaded>
      {asking === "create" && <Create onClose={close} onDone={polled.reload} />}
      {asking !== undefined && asking !== "create" && (
        <Confirm
          title={`Delete tenant ${asking.name}`}
          word={asking.name}
          verb="Delete"
          onClose={close}
          act={async () => {
            await call("tenantDelete", { tenant: asking.id });
            close();
            await polled.reload();
          }}
        >
          <p>All of its branches are deleted, with their data, and its sessions end.</p>
        </Confirm>
      )}
    </>
  );
}

function Create({ onClose, onDone }: { readonly onClose: () => void; readonly onDone: () => Promise<void> }) {
  const [name, setName] = useState("");
  const [major, setMajor] = useState("");
  return (
    <FormDialog
      title="New tenant"
      verb="Create"
      onClose={onClose}
      act={async () => {
        const pg_version = major.trim() === "" ? {} : { pg_version: Number(major) };
        await call("tenantCreate", {}, { body: { name: name.trim(), ...pg_version } });
        onClose();
        await onDone();
      }}
    >
      <Field label="Name" value={name} onInput={setName} autoFocus isRequired />
      <Field
        label="PostgreSQL major"
        value={major}
        onInput={setMajor}
        placeholder="the newest that is installed"
      />
    </FormDialog>
  );
}
